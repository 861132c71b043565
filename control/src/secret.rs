//! CHAP secrets: they come out of files, or once over the API, and nothing
//! that prints, lists or keeps anything ever shows them.

use crate::problem::{Kind, Problem};
use crate::step::{Access, ChapSpec};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};
use zeroize::Zeroizing;

/// RFC 7143, 9.2.1: a secret of less than 96 bits can be guessed by who
/// listened to a login.
pub const SECRET_BYTES_MIN: usize = 12;
/// Far more than the 128 bits that RFC 7143, 9.2.1 wants to be possible.
pub const SECRET_BYTES_MAX: usize = 100;

/// What stands in the place of a secret.
const REDACTED: &str = "(secret)";

/// A CHAP secret. Its memory is wiped when it goes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    pub fn new(bytes: Vec<u8>) -> Result<Secret, Problem> {
        let bytes = Zeroizing::new(bytes);
        let problem = |what: String| {
            Problem::invalid(what).hint(format!(
                "take {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} random letters and digits, such as from `openssl rand -hex 16`"
            ))
        };
        if bytes.len() < SECRET_BYTES_MIN {
            let bits = 8 * SECRET_BYTES_MIN;
            return Err(problem(format!(
                "the secret is shorter than {SECRET_BYTES_MIN} bytes ({bits} bits)"
            )));
        }
        if bytes.len() > SECRET_BYTES_MAX {
            return Err(problem(format!("the secret is longer than {SECRET_BYTES_MAX} bytes")));
        }
        if bytes.iter().any(|byte| byte.is_ascii_control()) {
            return Err(problem(
                "the secret has control characters, or more than one line, in it".to_owned(),
            ));
        }
        Ok(Secret(bytes))
    }

    /// The secret in a file that others cannot read; a line feed at its end is
    /// no part of it.
    pub fn read(path: &Path) -> Result<Secret, Problem> {
        let place = path.display().to_string();
        let failed = |error: std::io::Error| {
            let (kind, hint) = match error.kind() {
                std::io::ErrorKind::NotFound => {
                    (Kind::NotFound, "make it, or correct `secret_file`; the daemon must see it too")
                }
                std::io::ErrorKind::PermissionDenied => (Kind::Failed, "let the daemon's user read it"),
                _ => (Kind::Failed, "see the kernel's log for the cause"),
            };
            Problem::new(kind, format!("cannot read the secret: {error}")).at(&place).hint(hint)
        };
        let mut options = File::options();
        // Opening a pipe must not wait for its writer.
        options.read(true).custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits());
        let file = options.open(path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        if !found.is_file() {
            return Err(Problem::invalid("a secret is kept in a plain file, and this is none")
                .at(&place)
                .hint("give the path of a file"));
        }
        if found.mode() & 0o007 != 0 {
            return Err(Problem::invalid(format!(
                "everybody on this host may open the file of the secret (its mode is {:04o})",
                found.mode() & 0o7777
            ))
            .at(&place)
            .hint(format!("chmod 600 {place}, and take a new secret if others can have read this one")));
        }
        // One more than can be good (with CR and LF), so that a longer one is noticed.
        let limit = SECRET_BYTES_MAX + 3;
        // As large as it can get, so that no copy is left behind by growing.
        let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 32));
        file.take(limit as u64).read_to_end(&mut bytes).map_err(failed)?;
        for end in [b'\n', b'\r'] {
            if bytes.last() == Some(&end) {
                bytes.pop();
            }
        }
        Secret::new(std::mem::take(&mut *bytes)).map_err(|problem| problem.at(&place))
    }

    /// For the answer to a challenge, and nothing else.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl ChapSpec {
    pub fn secret(&self) -> Result<Secret, Problem> {
        Secret::read(&self.secret_file)
    }
}

impl Access {
    /// Reads the secrets. What is wrong with them is told before anybody tries to log in.
    pub fn check_secrets(&self) -> Result<(), Problem> {
        let chap = self.chap.as_ref().map(ChapSpec::secret).transpose()?;
        let mutual = self.mutual.as_ref().map(ChapSpec::secret).transpose()?;
        // RFC 7143, 9.2.1: who knew the one could answer the other's challenge.
        if let (Some(spec), true) = (&self.mutual, mutual.is_some() && chap == mutual) {
            return Err(Problem::invalid("initiator and target are to have the same secret")
                .at(spec.secret_file.display().to_string())
                .hint("give `mutual` a secret of its own"));
        }
        Ok(())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SecretVisitor;
        /// Serde's own message for a value of a wrong type has the value in it.
        fn wrong<T, E: de::Error>() -> Result<T, E> {
            Err(E::custom("a secret is text; write it in quotes"))
        }
        impl<'de> de::Visitor<'de> for SecretVisitor {
            type Value = Secret;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a secret")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
                Secret::new(text.as_bytes().to_vec()).map_err(|problem| {
                    E::custom(format!("{}; {}", problem.what, problem.hint.unwrap_or_default()))
                })
            }
            fn visit_bool<E: de::Error>(self, _: bool) -> Result<Secret, E> {
                wrong()
            }
            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
                wrong()
            }
            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
                wrong()
            }
            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
                wrong()
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, _: A) -> Result<Secret, A::Error> {
                wrong()
            }
            fn visit_map<A: de::MapAccess<'de>>(self, _: A) -> Result<Secret, A::Error> {
                wrong()
            }
        }
        deserializer.deserialize_any(SecretVisitor)
    }
}

impl ToSchema for Secret {}
impl PartialSchema for Secret {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("A CHAP secret, 12 to 100 characters. It is never part of an answer."))
            .min_length(Some(SECRET_BYTES_MIN))
            .max_length(Some(SECRET_BYTES_MAX))
            .write_only(true)
            .into()
    }
}
