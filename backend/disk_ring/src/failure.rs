//! What an errno means to a guest.

use host::errno;
use host::ring::Failure;
use request::Status;

/// Which way the data went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Read,
    Write,
}

/// Every failure has a status; those that no row names are medium errors, which no guest ignores.
pub fn status(way: Way, failure: Failure) -> Status {
    match failure {
        // A read within the volume met the end of what is behind it.
        Failure::EndOfFile => Status::NotReady,
        Failure::BadSpan => Status::Aborted,
        Failure::Errno(code) => match code {
            errno::ENOSPC | errno::EDQUOT | errno::EFBIG => Status::NoSpace,
            // EBADF: the descriptor is open for reading only.
            errno::EROFS | errno::EPERM | errno::EACCES | errno::EBADF | errno::ETXTBSY => {
                Status::WriteProtected
            }
            errno::ENODEV
            | errno::ENXIO
            | errno::ESTALE
            | errno::ENOTCONN
            | errno::ESHUTDOWN
            | errno::ETIMEDOUT => Status::NotReady,
            errno::EOPNOTSUPP | errno::ENOSYS => Status::Unsupported,
            // Not the disk's fault: the guest's memory is gone, or the host is out of its own.
            errno::EFAULT | errno::ECANCELED | errno::ENOMEM => Status::Aborted,
            _ if way == Way::Read => Status::MediumRead,
            _ => Status::MediumWrite,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers are typed from errno(3) on x86 and arm, apart from libc's constants.
    #[test]
    fn errors_reach_the_guest_under_their_right_names() {
        let of = |way, code| status(way, Failure::Errno(code));
        assert_eq!(of(Way::Read, 5), Status::MediumRead); // EIO
        assert_eq!(of(Way::Write, 5), Status::MediumWrite);
        assert_eq!(of(Way::Read, 61), Status::MediumRead); // ENODATA: the block layer's medium error
        assert_eq!(of(Way::Write, 28), Status::NoSpace); // ENOSPC
        assert_eq!(of(Way::Write, 122), Status::NoSpace); // EDQUOT
        assert_eq!(of(Way::Write, 30), Status::WriteProtected); // EROFS
        assert_eq!(of(Way::Write, 1), Status::WriteProtected); // EPERM
        assert_eq!(of(Way::Read, 19), Status::NotReady); // ENODEV
        assert_eq!(of(Way::Write, 116), Status::NotReady); // ESTALE
        assert_eq!(of(Way::Write, 95), Status::Unsupported); // EOPNOTSUPP
        assert_eq!(of(Way::Read, 14), Status::Aborted); // EFAULT
        assert_eq!(status(Way::Read, Failure::EndOfFile), Status::NotReady);
    }
}
