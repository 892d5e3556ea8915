//! Children of this process (wait, subreaper, parent death): who ended and how, who is left to whom, and signals to them.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{
    Pid, Signal, WaitOptions, getpid, getppid, kill_process, kill_process_group, set_child_subreaper,
    set_parent_process_death_signal, waitpid,
};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With this exit code.
    Code(u8),
    /// By this signal.
    Killed(u8),
}

/// A signal that one process passes on to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signalled {
    /// SIGHUP.
    HangUp,
    /// SIGINT.
    Interrupt,
    /// SIGQUIT.
    Quit,
    /// SIGTERM.
    Terminate,
    /// SIGUSR1.
    User1,
    /// SIGUSR2.
    User2,
}

/// The number of this process.
pub fn own_pid() -> u32 {
    number_of(getpid())
}

/// The number of its parent; 0: it is in another namespace.
pub fn parent() -> u32 {
    getppid().map_or(0, number_of)
}

/// `/proc` tells of the processes that this one knows by the same numbers.
pub fn proc_is_ours() -> bool {
    fs::read_link("/proc/self").is_ok_and(|own| own.to_str() == Some(&own_pid().to_string()))
}

/// Children of children that lose their parent become this process's, if it is no init anyway.
pub fn take_orphans() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// This process is told to terminate when its parent dies: whoever starts the service again finds its doors free.
pub fn end_with_parent() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::TERM))?)
}

/// Sends a signal. False: there is no such process any more.
pub fn send_signal(to: u32, signal: Signalled) -> bool {
    let signal = match signal {
        Signalled::HangUp => Signal::HUP,
        Signalled::Interrupt => Signal::INT,
        Signalled::Quit => Signal::QUIT,
        Signalled::Terminate => Signal::TERM,
        Signalled::User1 => Signal::USR1,
        Signalled::User2 => Signal::USR2,
    };
    pid_of(to).is_some_and(|to| kill_process(to, signal).is_ok())
}

/// Kills a process and all of its group, which has its number.
pub fn kill_group(leader: u32) {
    // It may have ended just now.
    let _ = pid_of(leader).map(|leader| kill_process_group(leader, Signal::KILL));
}

/// A child of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Child {
    /// Its number.
    pub pid: u32,
    /// It has ended, and nobody has asked how.
    pub is_over: bool,
    /// The process that it named as the one in its place.
    pub successor: Option<u32>,
    /// When it was started, on a clock of the kernel's.
    started: u64,
}

/// All of them.
pub fn all() -> Vec<Child> {
    let own = own_pid();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter_map(|pid| child_of(own, pid)).collect()
}

fn child_of(own: u32, pid: u32) -> Option<Child> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Between the brackets is the name, which may hold anything.
    let (front, behind) = stat.rsplit_once(')')?;
    let name = front.split_once('(')?.1;
    let mut fields = behind.split_whitespace();
    let is_over = matches!(fields.next()?, "Z" | "X");
    let parent: u32 = fields.next()?.parse().ok()?;
    let started = fields.nth(17)?.parse().ok()?;
    let successor = name.strip_prefix(SUCCEEDED_BY).and_then(|number| number.parse().ok());
    (parent == own).then_some(Child { pid, is_over, successor, started })
}

/// How this child ended, which is told once. `None`: it has not, or is none.
pub fn take_ended(child: u32) -> Option<Ended> {
    let (_, status) = waitpid(Some(pid_of(child)?), WaitOptions::NOHANG).ok().flatten()?;
    let byte = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
    Some(match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ended::Code(byte(code)),
        (None, signal) => Ended::Killed(signal.map_or(0, byte)),
    })
}

/// Says, for whoever waits for this process, which process has taken its place: in its own name, which everybody may read,
/// and which stays until somebody asks how it ended.
pub fn name_successor(pid: u32) -> io::Result<()> {
    fs::write("/proc/self/comm", format!("{SUCCEEDED_BY}{pid}"))
}

/// The one of these that was started last of those with this variable in their environment.
pub fn last_with(children: &[Child], variable: &str) -> Option<u32> {
    let wanted = format!("{variable}=");
    let has_it = |child: &&Child| {
        let environment = fs::read(format!("/proc/{}/environ", child.pid)).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|one| one.starts_with(wanted.as_bytes()))
    };
    children.iter().filter(has_it).max_by_key(|child| child.started).map(|child| child.pid)
}

/// This process becomes that program, under the same number. Signals that come meanwhile wait until the program lets them
/// in. Comes back only where that fails.
#[allow(unsafe_code)]
pub fn become_program(command: &mut Command) -> io::Error {
    set_mask(libc::SIG_BLOCK);
    // SAFETY: it sets the mask of signals again, which the library empties just before; that is safe between fork and exec,
    // and here there is no fork.
    let error = unsafe {
        command.pre_exec(|| {
            set_mask(libc::SIG_BLOCK);
            Ok(())
        })
    }
    .exec();
    set_mask(libc::SIG_UNBLOCK);
    error
}

/// Signals that are passed on wait from now on, as far as this thread is concerned: another thread takes them, or, where all
/// hold them, whatever this process becomes.
pub fn hold_signals() {
    set_mask(libc::SIG_BLOCK);
}

/// Signals that waited come.
pub fn let_signals_in() {
    set_mask(libc::SIG_UNBLOCK);
}

#[allow(unsafe_code)]
fn set_mask(how: libc::c_int) {
    // SAFETY: the set is made by sigemptyset before it is used, and lives through the calls; a mask of signals touches no
    // memory of anybody else.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        for signal in [
            libc::SIGHUP,
            libc::SIGINT,
            libc::SIGQUIT,
            libc::SIGTERM,
            libc::SIGUSR1,
            libc::SIGUSR2,
            libc::SIGCHLD,
        ] {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut());
    }
}

fn pid_of(number: u32) -> Option<Pid> {
    i32::try_from(number).ok().and_then(Pid::from_raw)
}

fn number_of(pid: Pid) -> u32 {
    u32::try_from(pid.as_raw_nonzero().get()).unwrap_or(0)
}

/// With the longest number it fits into a name.
const SUCCEEDED_BY: &str = "next ";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn found(pid: u32) -> Option<Child> {
        all().into_iter().find(|child| child.pid == pid)
    }

    fn until(holds: impl Fn() -> bool) {
        while !holds() {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn a_child_is_found_by_its_environment_and_no_other() {
        let mut child = Command::new("sleep").arg("60").env("EVENKEEL_TEST_CHILD", "1").spawn().unwrap();
        let mut other = Command::new("sleep").arg("60").spawn().unwrap();
        // The environment is that of this process until the program has been started.
        until(|| last_with(&all(), "EVENKEEL_TEST_CHILD") == Some(child.id()));
        assert!(found(child.id()).is_some_and(|child| !child.is_over && child.successor.is_none()));
        assert_eq!(take_ended(child.id()), None);
        assert!(send_signal(child.id(), Signalled::Terminate));
        until(|| found(child.id()).unwrap().is_over);
        assert_eq!(take_ended(child.id()), Some(Ended::Killed(15)));
        assert_eq!((found(child.id()), take_ended(child.id())), (None, None), "it is told once");
        assert!(child.wait().is_err() && proc_is_ours());
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn a_process_names_its_successor_until_somebody_asks_how_it_ended() {
        let script = "printf 'next 4194304' >/proc/$$/comm; exit 7";
        let mut child = Command::new("sh").args(["-c", script]).spawn().unwrap();
        until(|| found(child.id()).unwrap().is_over);
        assert_eq!(found(child.id()).unwrap().successor, Some(4_194_304));
        assert_eq!(take_ended(child.id()), Some(Ended::Code(7)));
        assert!(child.wait().is_err(), "it is told once");
    }

    #[test]
    fn a_program_that_cannot_be_become_leaves_this_one_as_it_was() {
        let error = become_program(&mut Command::new("/nowhere"));
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
