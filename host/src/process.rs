//! Processes: a worker started with descriptors in its hands, signals as events, limits.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

/// The first descriptor that systemd's protocol passes (sd_listen_fds(3), SD_LISTEN_FDS_START).
const LISTEN_FDS_START: RawFd = 3;

/// A child process that has not been waited for.
#[derive(Debug)]
pub struct Child {
    pid: libc::pid_t,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Exited(i32),
    Killed(i32),
}

impl Child {
    pub fn id(&self) -> u32 {
        self.pid as u32
    }

    /// Looks whether the child has ended, without waiting.
    pub fn try_wait(&mut self) -> io::Result<Option<Ended>> {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        let got = unsafe { libc::waitpid(self.pid, &mut status, libc::WNOHANG) };
        if got < 0 {
            return Err(io::Error::last_os_error());
        }
        if got == 0 {
            return Ok(None);
        }
        if libc::WIFSIGNALED(status) {
            Ok(Some(Ended::Killed(libc::WTERMSIG(status))))
        } else {
            Ok(Some(Ended::Exited(libc::WEXITSTATUS(status))))
        }
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: a plain system call; the pid is ours until it is waited for.
        unsafe { libc::kill(self.pid, signal) };
    }
}

/// Starts `argv` with `fds` as its descriptors 3, 4, … and tells it of them as systemd does:
/// LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES. `environment` is added to ours.
pub fn spawn_with_fds(
    argv: &[std::ffi::OsString],
    environment: &[(&str, String)],
    fds: &[(String, BorrowedFd<'_>)],
) -> io::Result<Child> {
    let bad = |_| io::Error::new(io::ErrorKind::InvalidInput, "an argument contains a zero byte");
    let program = argv.first().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let program = which(program)?;
    let argv: Vec<CString> =
        argv.iter().map(|arg| CString::new(arg.as_bytes())).collect::<Result<_, _>>().map_err(bad)?;
    let own: Vec<&str> = environment.iter().map(|(name, _)| *name).collect();
    let mut variables: Vec<CString> = std::env::vars_os()
        .filter(|(name, _)| {
            let name = name.to_string_lossy();
            !name.starts_with("LISTEN_") && !own.contains(&name.as_ref())
        })
        .map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()))
        .collect::<Result<_, _>>()
        .map_err(bad)?;
    for (name, value) in environment {
        variables.push(CString::new(format!("{name}={value}")).map_err(bad)?);
    }
    let names: Vec<&str> = fds.iter().map(|(name, _)| name.as_str()).collect();
    variables.push(CString::new(format!("LISTEN_FDS={}", fds.len())).map_err(bad)?);
    variables.push(CString::new(format!("LISTEN_FDNAMES={}", names.join(":"))).map_err(bad)?);
    // The child writes its own number into the ten places at the end.
    const PID: &[u8] = b"LISTEN_PID=0000000000\0";
    const PID_AT: usize = PID.len() - 11;
    let mut pid_variable = PID.to_vec();
    let mut argv: Vec<*const libc::c_char> = argv.iter().map(|arg| arg.as_ptr()).collect();
    argv.push(std::ptr::null());
    let mut envp: Vec<*const libc::c_char> = variables.iter().map(|variable| variable.as_ptr()).collect();
    envp.push(pid_variable.as_ptr().cast());
    envp.push(std::ptr::null());
    let raw: Vec<RawFd> = fds.iter().map(|(_, fd)| fd.as_raw_fd()).collect();
    let mut moved = vec![-1; raw.len()];
    let floor = LISTEN_FDS_START + raw.len() as RawFd;
    let digits = pid_variable.as_mut_ptr();

    // SAFETY: the child only makes async-signal-safe calls on memory prepared above, then execs or
    // exits; it neither allocates nor takes a lock.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if pid == 0 {
        // SAFETY: see above; every pointer was made before the fork.
        unsafe {
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
            // Out of the way first, so that no target overwrites a source.
            for (from, to) in raw.iter().zip(&mut moved) {
                *to = libc::fcntl(*from, libc::F_DUPFD_CLOEXEC, floor);
                if *to < 0 {
                    libc::_exit(126);
                }
            }
            for (index, from) in moved.iter().enumerate() {
                if libc::dup2(*from, LISTEN_FDS_START + index as RawFd) < 0 {
                    libc::_exit(126);
                }
            }
            // Without leading zeroes, which some readers take for an octal number.
            let (mut rest, mut len) = (libc::getpid(), 1);
            while rest >= 10 {
                rest /= 10;
                len += 1;
            }
            rest = libc::getpid();
            *digits.add(PID_AT + len) = 0;
            for place in (PID_AT..PID_AT + len).rev() {
                *digits.add(place) = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
            libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr());
            libc::_exit(127);
        }
    }
    Ok(Child { pid })
}

/// The program's path, looked up as a shell would.
fn which(program: &std::ffi::OsStr) -> io::Result<CString> {
    let bad = |_| io::Error::new(io::ErrorKind::InvalidInput, "the program's name contains a zero byte");
    if program.as_bytes().contains(&b'/') {
        return CString::new(program.as_bytes()).map_err(bad);
    }
    for folder in std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()) {
        let path = folder.join(program);
        if path.is_file() {
            return CString::new(path.as_os_str().as_bytes()).map_err(bad);
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, format!("{} is not in PATH", program.to_string_lossy())))
}

/// The descriptors that whoever started us left in our hands, with their names. Taken once: the
/// variables are not looked at again.
pub fn take_listen_fds() -> Vec<(String, OwnedFd)> {
    use std::sync::atomic::{AtomicBool, Ordering};
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(std::process::id()) || TAKEN.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    let count = number("LISTEN_FDS").unwrap_or(0);
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    (0..count as RawFd)
        .filter_map(|index| {
            let fd = LISTEN_FDS_START + index;
            // SAFETY: a plain system call; a closed descriptor is an error, not harm.
            if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
                return None;
            }
            // SAFETY: sd_listen_fds(3): these descriptors are ours, and they are taken only once.
            Some((names.next().unwrap_or("unknown").to_owned(), unsafe { OwnedFd::from_raw_fd(fd) }))
        })
        .collect()
}

/// Signals that are read instead of interrupting.
#[derive(Debug)]
pub struct Signals(OwnedFd);

impl Signals {
    /// Blocks these signals in this thread (and those that it starts later) and collects them.
    pub fn block(signals: &[i32]) -> io::Result<Self> {
        // SAFETY: an all-zero set is valid, and sigemptyset fills it in anyway.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: `set` outlives the calls.
        unsafe {
            libc::sigemptyset(&mut set);
            for signal in signals {
                libc::sigaddset(&mut set, *signal);
            }
            if libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        // SAFETY: `set` was filled in above.
        let fd = unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just made this descriptor for us.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next signal that came, if one did.
    pub fn take(&self) -> Option<i32> {
        // SAFETY: an all-zero value of this C structure is valid.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: `info` is writable for its size.
        let got = unsafe { libc::read(self.0.as_raw_fd(), (&raw mut info).cast(), size) };
        (got == size as isize).then_some(info.ssi_signo as i32)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Raises the limit of open descriptors to what the system allows; returns it.
pub fn raise_fd_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` outlives the calls.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
    limit.rlim_cur
}

/// This process leaves no core dump, and nobody but root can look into its memory: it holds secrets,
/// and what guests have in theirs.
pub fn keep_memory_private() -> io::Result<()> {
    // SAFETY: no pointers are passed.
    match unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Timers of this thread end within a microsecond, instead of the 50 that the kernel allows itself
/// to put several wake-ups together.
pub fn be_punctual() {
    // SAFETY: the call changes a setting of this thread and reaches no memory.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1000 as libc::c_ulong) };
}

/// Nanoseconds of CLOCK_MONOTONIC: the same clock in every process of this boot.
#[inline]
pub fn now_nanos() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` outlives the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

/// CPU time that the calling thread has used, in nanoseconds.
pub fn thread_cpu_nanos() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` outlives the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

/// Makes a path belong to a user, by name.
pub fn give_to_user(path: &std::path::Path, user: &str) -> io::Result<()> {
    let name = CString::new(user).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut buffer = vec![0u8; 16384];
    // SAFETY: an all-zero value of this C structure is valid.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    let mut found: *mut libc::passwd = std::ptr::null_mut();
    // SAFETY: all pointers outlive the call; `buffer` holds the strings.
    let error = unsafe {
        libc::getpwnam_r(name.as_ptr(), &mut entry, buffer.as_mut_ptr().cast(), buffer.len(), &mut found)
    };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    if found.is_null() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no user `{user}`")));
    }
    std::os::unix::fs::chown(path, Some(entry.pw_uid), Some(entry.pw_gid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_child_gets_its_descriptors_by_number_and_name() {
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let event = crate::event::Event::new().unwrap();
        let script = "echo $LISTEN_FDS $LISTEN_FDNAMES $((LISTEN_PID - $$)) >&4";
        let argv = ["sh", "-c", script].map(std::ffi::OsString::from);
        let fds = [("an/event".to_owned(), event.as_fd()), ("socket".to_owned(), theirs.as_fd())];
        let mut child = spawn_with_fds(&argv, &[], &fds).unwrap();
        drop(theirs);
        let mut said = String::new();
        ours.read_to_string(&mut said).unwrap();
        assert_eq!(said, "2 an/event:socket 0\n");
        let ended = loop {
            if let Some(ended) = child.try_wait().unwrap() {
                break ended;
            }
            std::thread::yield_now();
        };
        assert_eq!(ended, Ended::Exited(0));
    }
}
