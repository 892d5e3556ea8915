//! The vocabulary of these tests: a balancer in this process or as the real program, scripted backends, clients, and
//! waiting for a condition with a deadline that no slow machine can miss.

mod backend;
mod balancer;
mod client;
mod network;
mod process;

use std::fmt::Debug;
use std::time::{Duration, Instant};

pub use backend::{Backend, Keeper, Silent, Switch, answer_with, closed_address, echo};
pub use balancer::{Balancer, settings};
pub use client::{
    Outcome, connect, exchange, is_turned_away, names_reached, pattern, read_to_end, reset, short_session,
    sum_of,
};
pub use network::{Offender, configure, enter_network};
pub use process::{Program, in_a_network_of_its_own};

/// How long anything may take before a test gives up.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until the condition holds; fails after [`DEADLINE`].
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until two values are equal, and shows the last ones if they never are.
#[track_caller]
#[allow(clippy::needless_pass_by_value)]
pub fn becomes<T: PartialEq + Debug>(what: &str, wanted: T, mut now: impl FnMut() -> T) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let value = now();
        if value == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: is {value:?}, never became {wanted:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
