//! The kernel's names for failures, for those who must tell them apart.

pub use libc::{
    EACCES, EBADF, ECANCELED, EDQUOT, EFAULT, EFBIG, EINVAL, EIO, ENODEV, ENOMEM, ENOSPC, ENOSYS, ENOTCONN,
    ENXIO, EOPNOTSUPP, EPERM, EROFS, ESHUTDOWN, ESTALE, ETIMEDOUT, ETXTBSY,
};
