//! MongoDB health check, `check: { mongodb: {} }`: `hello`, which everybody may ask: whether a member of a replica set is the primary, by
//! which election, and how far it is in the oplog.
//!
//! Pure: one conversation, bytes in, steps out.

use super::bson::{self, Value};
use super::dialogue::{Dialogue, Step};
use super::outcome::{Cause, Excerpt, Outcome};
use crate::roles::{Answer, Claim, Generation};

/// One connection to a mongod or mongos.
#[derive(Debug)]
pub(super) struct Mongodb {
    with_tls: bool,
    /// It is older than 4.4 and knows the question by another name.
    is_old: bool,
    is_asked: bool,
    asked: u32,
    heard: Vec<u8>,
}

impl Mongodb {
    /// Nothing is said yet.
    pub(super) fn new(with_tls: bool) -> Self {
        Self { with_tls, is_old: false, is_asked: false, asked: 0, heard: Vec::new() }
    }

    fn ask(&mut self) -> Step {
        self.heard.clear();
        self.is_asked = true;
        self.asked = self.asked.wrapping_add(1);
        Step::Send(question(self.asked, if self.is_old { b"isMaster" } else { b"hello" }))
    }
}

impl Dialogue for Mongodb {
    fn begin(&mut self) -> Step {
        if self.with_tls { Step::StartTls } else { self.ask() }
    }

    fn again(&mut self) -> Step {
        self.ask()
    }

    fn secured(&mut self) -> Step {
        self.ask()
    }

    fn heard(&mut self, bytes: &[u8]) -> Step {
        if !self.is_asked {
            return Step::Gone(Cause::Closed);
        }
        self.heard.extend_from_slice(bytes);
        let Some(length) = self.heard.first_chunk().map(|length| u32::from_le_bytes(*length) as usize) else {
            return Step::More;
        };
        let is_message = (21..=MESSAGE_BYTES_MAX).contains(&length)
            && self.heard.get(12..16).is_none_or(|kind| *kind == OP_MSG.to_le_bytes());
        if !is_message {
            return Step::Bad(Cause::Protocol { excerpt: Excerpt::of(&self.heard) });
        }
        if self.heard.len() < length {
            return Step::More;
        }
        self.is_asked = false;
        // Flags, and the kind of the only section.
        let said = judge(&self.heard[21..length]);
        match said {
            Err(UNKNOWN_QUESTION) if !self.is_old => {
                self.is_old = true;
                self.ask()
            }
            Err(code) => {
                let why = format!("it answers `hello` with error {code}");
                Step::Bad(Cause::WrongAnswer { excerpt: Excerpt::text(&why) })
            }
            Ok(outcome) => Step::Done(outcome),
        }
    }

    /// Nothing is counted or logged of one that just leaves.
    fn farewell(&self) -> &'static [u8] {
        b""
    }
}

/// An OP_MSG that asks this of the database `admin`.
fn question(number: u32, what: &[u8]) -> Vec<u8> {
    let mut elements = vec![0x10];
    elements.extend_from_slice(what);
    elements.extend_from_slice(b"\0\x01\0\0\0\x02$db\0\x06\0\0\0admin\0\0");
    let mut document = length_of(elements.len() + 4).to_vec();
    document.extend_from_slice(&elements);
    let mut message = length_of(16 + 5 + document.len()).to_vec();
    message.extend_from_slice(&number.to_le_bytes());
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(&OP_MSG.to_le_bytes());
    message.extend_from_slice(&[0; 5]);
    message.extend_from_slice(&document);
    message
}

fn length_of(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes()
}

/// What an answer means; the number of its error where it is one, 0 where it has none.
fn judge(document: &[u8]) -> Result<Outcome, i64> {
    let is = |name| bson::find(document, name) == Some(Value::Is(true));
    if bson::find(document, "ok") != Some(Value::Number(1)) {
        return Err(match bson::find(document, "code") {
            Some(Value::Number(code)) => code,
            _ => 0,
        });
    }
    let unready = |why: &str| {
        let excerpt = Excerpt::text(why);
        Ok(Outcome::Bad(Cause::Unready { excerpt }))
    };
    if is("arbiterOnly") {
        return unready("it is an arbiter, and holds no data");
    }
    if is("hidden") {
        return unready("it is a hidden member");
    }
    let is_router = bson::find(document, "msg") == Some(Value::Text("isdbgrid"));
    let claim = if is_router {
        Claim::Writer
    } else if is("isWritablePrimary") || is("ismaster") {
        Claim::Primary
    } else if is("secondary") {
        Claim::Replica
    } else {
        return unready("it is neither primary nor secondary: it starts, copies, or goes back (rollback)");
    };
    let election = match (claim, bson::find(document, "electionId")) {
        // `7fffffff` stands in front of the term.
        (Claim::Primary, Some(Value::Id([_, _, _, _, term @ ..]))) => Some(u64::from_be_bytes(term)),
        _ => None,
    };
    let set = match bson::find(document, "setName") {
        Some(Value::Text(set)) => Some(set),
        _ => None,
    };
    let generation = set.zip(election).map(|(set, number)| Generation { lineage: set.into(), number });
    Ok(Outcome::Role(Answer { claim, generation, position: written(document) }))
}

/// The time of the last write that it has, and a count within the second.
fn written(document: &[u8]) -> Option<u64> {
    let Some(Value::Document(last)) = bson::find(document, "lastWrite") else { return None };
    let Some(Value::Document(time)) = bson::find(last, "opTime") else { return None };
    match bson::find(time, "ts") {
        Some(Value::Timestamp(ts)) => Some(ts),
        _ => None,
    }
}

const OP_MSG: u32 = 2013;
/// `hello` takes less than one KiB, and lists at most 50 members.
const MESSAGE_BYTES_MAX: usize = 60 * 1024;
/// CommandNotFound.
const UNKNOWN_QUESTION: i64 = 59;

/// Whatever a member says, in pieces of whatever size, for the fuzzer.
#[cfg(fuzzing)]
pub fn fuzz(bytes: &[u8]) {
    let [piece, said @ ..] = bytes else { return };
    super::dialogue::fuzz(&mut Mongodb::new(false), said.chunks(usize::from(*piece).max(1)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn element(kind: u8, name: &str, value: &[u8]) -> Vec<u8> {
        [&[kind], name.as_bytes(), &[0], value].concat()
    }

    fn document(elements: &[Vec<u8>]) -> Vec<u8> {
        let body = elements.concat();
        [&length_of(body.len() + 5)[..], &body, &[0]].concat()
    }

    fn text(name: &str, value: &str) -> Vec<u8> {
        element(2, name, &[&length_of(value.len() + 1)[..], value.as_bytes(), &[0]].concat())
    }

    fn is(name: &str, value: bool) -> Vec<u8> {
        element(8, name, &[u8::from(value)])
    }

    fn message(elements: &[Vec<u8>]) -> Vec<u8> {
        let document = document(elements);
        let length = length_of(21 + document.len());
        [&length[..], &[1, 0, 0, 0, 1, 0, 0, 0], &OP_MSG.to_le_bytes(), &[0; 5], &document].concat()
    }

    /// As the manual describes the answer to `hello`, in the order of its fields.
    fn hello(own: &[Vec<u8>]) -> Vec<u8> {
        let topology =
            document(&[element(7, "processId", &[3; 12]), element(18, "counter", &[6, 0, 0, 0, 0, 0, 0, 0])]);
        let time = document(&[
            element(17, "ts", &[1, 0, 0, 0, 0, 0, 0, 0x68]),
            element(18, "t", &[5, 0, 0, 0, 0, 0, 0, 0]),
        ]);
        let last = document(&[element(3, "opTime", &time), element(9, "lastWriteDate", &[0; 8])]);
        let hosts = document(&[text("0", "10.0.0.1:27017"), text("1", "10.0.0.2:27017")]);
        let mut all = vec![
            element(3, "topologyVersion", &topology),
            element(4, "hosts", &hosts),
            text("setName", "main"),
            element(16, "setVersion", &[1, 0, 0, 0]),
        ];
        all.extend_from_slice(own);
        all.extend([
            element(3, "lastWrite", &last),
            element(9, "localTime", &[0; 8]),
            element(5, "nonce", &[2, 0, 0, 0, 0, 9, 9]),
            element(10, "nothing", b""),
            element(1, "ok", &1.0_f64.to_le_bytes()),
        ]);
        message(&all)
    }

    fn heard(pieces: &[&[u8]]) -> String {
        let mut mongodb = Mongodb::new(false);
        assert!(matches!(mongodb.begin(), Step::Send(_)));
        let mut last = Step::More;
        for piece in pieces {
            last = mongodb.heard(piece);
            if !matches!(last, Step::More) {
                break;
            }
        }
        match last {
            Step::Done(Outcome::Role(answer)) => {
                let number = answer.generation.map(|one| format!("{} {}", one.lineage, one.number));
                format!("{} {number:?} {:?}", answer.claim.word(), answer.position)
            }
            Step::Done(Outcome::Bad(cause)) | Step::Bad(cause) => format!("{}: {cause}", cause.word()),
            other => format!("{other:?}"),
        }
    }

    const TERM: [u8; 12] = [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 5];

    #[test]
    fn the_question_is_that_of_the_manual() {
        let Step::Send(question) = Mongodb::new(false).begin() else { panic!("nothing is said") };
        let expected = b"\x34\0\0\0\x01\0\0\0\0\0\0\0\xdd\x07\0\0\0\0\0\0\0\x1f\0\0\0\x10hello\0\x01\0\0\0\x02$db\0\x06\0\0\0admin\0\0";
        assert_eq!(question.escape_ascii().to_string(), expected.escape_ascii().to_string());
        assert!(matches!(Mongodb::new(true).begin(), Step::StartTls));
    }

    #[test]
    fn members_tell_their_role_their_election_and_their_place() {
        let primary =
            hello(&[is("isWritablePrimary", true), is("secondary", false), element(7, "electionId", &TERM)]);
        let place = 0x68_u64 << 56 | 1;
        let said = format!("primary Some(\"main 5\") Some({place})");
        assert_eq!(heard(&[&primary]), said);
        assert_eq!(heard(&primary.chunks(1).collect::<Vec<_>>()), said);
        let secondary = hello(&[is("isWritablePrimary", false), is("secondary", true)]);
        assert_eq!(heard(&[&secondary]), format!("replica None Some({place})"));
        let router = message(&[
            is("isWritablePrimary", true),
            text("msg", "isdbgrid"),
            element(16, "ok", &[1, 0, 0, 0]),
        ]);
        assert_eq!(heard(&[&router]), "writer None None");
        let alone = message(&[is("isWritablePrimary", true), element(1, "ok", &1.0_f64.to_le_bytes())]);
        assert_eq!(heard(&[&alone]), "primary None None");
        let (no, yes) = (is("isWritablePrimary", false), is("secondary", true));
        for own in
            [vec![no.clone()], vec![no.clone(), is("arbiterOnly", true)], vec![no, yes, is("hidden", true)]]
        {
            assert!(heard(&[&hello(&own)]).starts_with("starting: "));
        }
    }

    #[test]
    fn what_is_no_answer_has_its_word_and_old_servers_are_asked_by_the_old_name() {
        let error = |code: u8| {
            message(&[element(1, "ok", &0.0_f64.to_le_bytes()), element(16, "code", &[code, 0, 0, 0])])
        };
        assert!(heard(&[&error(13)]).starts_with("wrong_answer: "));
        let old = message(&[is("ismaster", true), element(1, "ok", &1.0_f64.to_le_bytes())]);
        let mut mongodb = Mongodb::new(false);
        mongodb.begin();
        let Step::Send(again) = mongodb.heard(&error(59)) else { panic!("it is not asked again") };
        assert!(again.windows(8).any(|part| part == b"isMaster"));
        assert!(matches!(mongodb.heard(&old), Step::Done(Outcome::Role(_))));
        assert!(matches!(mongodb.again(), Step::Send(_)));
        assert!(matches!(mongodb.heard(&old), Step::Done(_)));
        assert!(matches!(mongodb.heard(b"x"), Step::Gone(_)), "nobody asked");
        for said in
            [&b"HTTP/1.1 400 Bad Request\r\n"[..], &[4, 0, 0, 0, 0], &[0xff; 16], b"\x30\0\0\0aaaabbbbcccc"]
        {
            assert!(heard(&[said]).starts_with("protocol: "), "{}", said.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_said_harms(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 21usize..260) {
            let mut said = hello(&[is("secondary", true)]);
            let _ = heard(&[&bytes]);
            said.splice(cut.min(said.len()).., bytes.iter().copied());
            let length = length_of(said.len());
            said[..4].copy_from_slice(&length);
            let _ = heard(&[&said]);
            let _ = bson::elements(&bytes).count();
        }
    }
}
