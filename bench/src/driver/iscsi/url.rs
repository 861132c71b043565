//! `iscsi://[user%secret@]host[:port]/iqn[/lun]`, as libiscsi's programs take it.

use super::options::Credentials;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    pub credentials: Option<Credentials>,
    /// `host:port`.
    pub portal: String,
    pub target: String,
    pub lun: u16,
}

impl std::str::FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Url, String> {
        let wrong = |what: &str| format!("{text}: {what} (iscsi://[user%secret@]host[:port]/iqn[/lun])");
        let rest = text.strip_prefix("iscsi://").ok_or_else(|| wrong("no iscsi:// at its head"))?;
        let (host, path) = rest.split_once('/').ok_or_else(|| wrong("no target"))?;
        // A secret may have an @; a host has none.
        let (credentials, host) = match host.rsplit_once('@') {
            None => (None, host),
            Some((user, host)) => {
                let (user, secret) = user.split_once('%').ok_or_else(|| wrong("no secret"))?;
                let secret = secret.as_bytes().to_vec();
                (Some(Credentials { user: user.into(), secret }), host)
            }
        };
        let has_port = host.rsplit_once(':').is_some_and(|(name, port)| {
            port.parse::<u16>().is_ok() && (name.ends_with(']') || !name.contains(':'))
        });
        let portal = if has_port { host.to_owned() } else { format!("{host}:3260") };
        let (target, lun) = match path.split_once('/') {
            None | Some((_, "")) => (path.trim_end_matches('/'), 0),
            Some((target, lun)) => (target, lun.parse().map_err(|_| wrong("the LUN is no number"))?),
        };
        if target.is_empty() {
            return Err(wrong("no target"));
        }
        Ok(Url { credentials, portal, target: target.into(), lun })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_are_found() {
        let url: Url = "iscsi://me%s@cret@[::1]:3261/iqn.2026-11.x:y/7".parse().unwrap();
        assert_eq!(url.credentials, Some(Credentials { user: "me".into(), secret: b"s@cret".to_vec() }));
        assert_eq!((url.portal.as_str(), url.target.as_str(), url.lun), ("[::1]:3261", "iqn.2026-11.x:y", 7));
        let url: Url = "iscsi://host/iqn.a".parse().unwrap();
        assert_eq!((url.portal.as_str(), url.lun, url.credentials), ("host:3260", 0, None));
        assert_eq!("iscsi://[::1]/a".parse::<Url>().unwrap().portal, "[::1]:3260");
        for wrong in ["http://a/b", "iscsi://a", "iscsi://a/b/x", "iscsi://user@a/b", "iscsi://a/"] {
            assert!(wrong.parse::<Url>().is_err(), "{wrong}");
        }
    }
}
