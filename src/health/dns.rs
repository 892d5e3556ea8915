//! DNS health check, `check: { dns: { name, type } }`: does the server answer a question?

use std::time::Duration;

use super::outcome::{Cause, Excerpt, Outcome};
use super::udp_talk::exchange;
use crate::dns::{Name, RecordType, question};
use crate::sys::probe::Route;

/// Asks the peer for a record. Any answer to this very question is good, "no such name" included, but not one that says
/// the server could not or would not: format error, failure, not implemented, refused. `front` stands in front of the
/// question. Cancel safe.
pub(super) async fn ask(
    route: &Route,
    front: &[u8],
    name: &str,
    record_type: u16,
    limit: Duration,
) -> Outcome {
    // The check of the file allows what a name may be.
    let asked = Name::of_checked(name);
    // Our port is fresh for each check, so it also serves as the number of the question.
    exchange(
        route,
        |port| [front, &question(port, &asked, RecordType(record_type), None)].concat(),
        judge,
        limit,
    )
    .await
}

fn judge(answer: &[u8], id: u16) -> Option<Outcome> {
    let header = answer.first_chunk::<12>()?;
    let is_answer = header[2] & 0x80 != 0;
    if header[..2] != id.to_be_bytes() || !is_answer {
        return None;
    }
    match header[3] & 0x0f {
        1 | 2 | 4 | 5 => Some(Outcome::Bad(Cause::WrongAnswer { excerpt: Excerpt::of(answer) })),
        _ => Some(Outcome::Good),
    }
}

/// Any answer, for the fuzzer.
#[cfg(fuzzing)]
pub fn fuzz(answer: &[u8]) {
    if let Some(Outcome::Bad(cause)) = judge(answer, 7) {
        assert!(cause.to_string().len() < 1_000);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_fitting_answer_counts() {
        let answer = |id: [u8; 2], flags: [u8; 2]| [&id[..], &flags[..], &[0; 8]].concat();
        assert_eq!(judge(&answer([0, 7], [0x81, 0x80]), 7), Some(Outcome::Good));
        assert_eq!(judge(&answer([0, 7], [0x81, 0x83]), 7), Some(Outcome::Good), "no such name");
        for failure in [1, 2, 4, 5] {
            assert!(matches!(judge(&answer([0, 7], [0x81, 0x80 | failure]), 7), Some(Outcome::Bad(_))));
        }
        assert_eq!(judge(&answer([0, 8], [0x81, 0x80]), 7), None, "another question's answer");
        assert_eq!(judge(&answer([0, 7], [0x01, 0x00]), 7), None, "a question");
        assert_eq!(judge(b"\x00\x07", 7), None, "too short");
    }
}
