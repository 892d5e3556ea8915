//! Redis and Valkey health check, `check: { redis: … }`: whether a server serves, whether it is the primary (master) or a replica, and how
//! far it is in the replication stream.
//!
//! Pure: one conversation, bytes in, steps out. PING, ROLE and INFO go out together. All three are needed: a server that loads its
//! data after a restart says `master` to ROLE and `-LOADING` to PING; a replica whose link is down says PONG; and only INFO
//! tells one that had the data of its primary from one that never had.

use std::fmt;
use std::sync::Arc;

use super::dialogue::{Dialogue, Step};
use super::outcome::{Cause, Excerpt, Outcome};
use super::resp::{self, Reply};
use crate::roles::{Answer, Claim};

/// What is said to a server of this protocol, whatever the questions are.
pub(super) struct Talk {
    /// AUTH, or nothing.
    login: Vec<u8>,
    with_tls: bool,
    questions: Vec<u8>,
    /// How many replies are still to come, that of the login first.
    due: Vec<Due>,
    heard: Vec<u8>,
    count: usize,
    judge: Judge,
}

/// What the replies to the questions mean. They are as many as the questions.
pub(super) type Judge = Box<dyn FnMut(&[Reply<'_>]) -> Result<Outcome, Cause> + Send>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Login,
    Answer,
}

impl fmt::Debug for Talk {
    /// The login holds a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Talk({} questions, {} bytes heard)", self.count, self.heard.len())
    }
}

impl Talk {
    /// Logs in where there is a password (without a user: as the default one), and asks all questions at once.
    pub(super) fn new(
        (user, password): (&[u8], &[u8]),
        with_tls: bool,
        questions: &[&[&[u8]]],
        judge: Judge,
    ) -> Self {
        let login = match (user, password) {
            (_, b"") => Vec::new(),
            (b"", password) => resp::command(&[b"AUTH", password]),
            (user, password) => resp::command(&[b"AUTH", user, password]),
        };
        Self {
            login,
            with_tls,
            questions: questions.iter().flat_map(|words| resp::command(words)).collect(),
            due: Vec::new(),
            heard: Vec::new(),
            count: questions.len(),
            judge,
        }
    }

    fn ask(&mut self, with_login: bool) -> Step {
        self.heard.clear();
        let answers = std::iter::repeat_n(Due::Answer, self.count);
        let with_login = with_login && !self.login.is_empty();
        self.due = with_login.then_some(Due::Login).into_iter().chain(answers).collect();
        let login: &[u8] = if with_login { &self.login } else { b"" };
        Step::Send([login, &self.questions].concat())
    }

    /// What is there so far; `None`: not all of it.
    fn judge(&mut self) -> Option<Result<Outcome, Cause>> {
        let mut rest = &self.heard[..];
        let mut replies = Vec::new();
        for due in &self.due {
            let (reply, length) = match resp::first(rest) {
                Ok(Some(first)) => first,
                Ok(None) => return None,
                Err(resp::Garbage) => {
                    return Some(Err(Cause::Protocol { excerpt: Excerpt::of(&self.heard) }));
                }
            };
            rest = &rest[length..];
            match (due, &reply) {
                (Due::Login, Reply::Error(error)) => return Some(Err(login_refused(error))),
                // It says so without being asked, and closes.
                (_, Reply::Error(error)) if is_turned_away(error) => return Some(Err(refused(error))),
                (Due::Login, _) => {}
                (Due::Answer, _) => replies.push(reply),
            }
        }
        Some((self.judge)(&replies))
    }
}

impl Dialogue for Talk {
    fn begin(&mut self) -> Step {
        if self.with_tls { Step::StartTls } else { self.ask(true) }
    }

    fn again(&mut self) -> Step {
        self.ask(false)
    }

    fn secured(&mut self) -> Step {
        self.ask(true)
    }

    fn heard(&mut self, bytes: &[u8]) -> Step {
        if self.due.is_empty() {
            // Nobody asked: a server that is full, or shuts down.
            return Step::Gone(Cause::Closed);
        }
        self.heard.extend_from_slice(bytes);
        let Some(judged) = self.judge() else { return Step::More };
        self.due.clear();
        self.heard = Vec::new();
        match judged {
            Ok(outcome) => Step::Done(outcome),
            Err(cause) => Step::Bad(cause),
        }
    }

    /// Nothing is counted or logged of one that just leaves.
    fn farewell(&self) -> &'static [u8] {
        b""
    }
}

/// What is asked of a server.
pub(super) const QUESTIONS: [&[&[u8]]; 4] =
    [&[b"PING"], &[b"ROLE"], &[b"INFO", b"replication"], &[b"INFO", b"server"]];

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    /// Its role, and its place in the stream.
    pub answer: Answer,
    /// The number it was given when it started; empty: not told.
    pub run_id: Arc<str>,
}

/// Reads the answers to [`QUESTIONS`].
pub(super) fn server(replies: &[Reply<'_>]) -> Result<Server, Cause> {
    let [ping, role, replication, server] = replies else { return Err(wrong(b"too few replies")) };
    match ping {
        Reply::Text(b"PONG") => {}
        Reply::Error(error) => return Err(refused(error)),
        _ => return Err(wrong(b"no PONG")),
    }
    let role = match role {
        Reply::Error(error) => return Err(refused(error)),
        role => role.array().ok_or_else(|| wrong(b"no answer to ROLE"))?,
    };
    // Who may not ask for INFO gets by without.
    let replication = replication.text().unwrap_or_default();
    let run_id = server.text().and_then(|text| field(text, "run_id")).filter(|id| id.len() <= ID_BYTES_MAX);
    let (claim, position) = match role {
        [Reply::Text(b"master"), Reply::Number(offset), ..] => (Claim::Primary, Some(*offset)),
        [Reply::Text(b"slave"), _, _, Reply::Text(state), Reply::Number(offset), ..] => {
            (Claim::Replica, replica_offset(state, *offset, replication)?)
        }
        [Reply::Text(b"sentinel"), ..] => return Err(wrong(b"it is a Sentinel, not a server")),
        _ => return Err(wrong(b"its ROLE is not known")),
    };
    let position = position.and_then(|offset| u64::try_from(offset).ok());
    let answer = Answer { claim, generation: None, position };
    Ok(Server { answer, run_id: run_id.unwrap_or_default().into() })
}

/// Where a replica is in the stream, if it serves at all. While its link is down, ROLE does not tell.
fn replica_offset(state: &[u8], offset: i64, replication: &[u8]) -> Result<Option<i64>, Cause> {
    let said = |key: &str| field(replication, key);
    let number = |key: &str| said(key).and_then(|text| text.parse::<i64>().ok());
    if state == b"connected" {
        return Ok(Some(offset));
    }
    let why = |what: &str| {
        let what = format!("a replica that {what} (link to its primary: {})", state.escape_ascii());
        Cause::Unready { excerpt: Excerpt::text(&what) }
    };
    if said("master_sync_in_progress") == Some("1") {
        return Err(why("copies the data of its primary"));
    }
    match number("master_link_down_since_seconds") {
        // It had all there was when the link broke, and serves that.
        Some(0..) => Ok(number("slave_repl_offset")),
        _ => Err(why("never had the data of its primary")),
    }
}

/// The value of `key:value` in an INFO.
fn field<'a>(info: &'a [u8], key: &str) -> Option<&'a str> {
    let lines = info.split(|byte| *byte == b'\n');
    let of_key = |line: &'a [u8]| line.strip_prefix(key.as_bytes())?.strip_prefix(b":");
    let value = lines.into_iter().find_map(of_key)?;
    std::str::from_utf8(value.trim_ascii()).ok()
}

/// What an error to a question means.
pub(super) fn refused(error: &[u8]) -> Cause {
    let excerpt = Excerpt::of(error);
    let begins = |words: &[&str]| words.iter().any(|word| error.starts_with(word.as_bytes()));
    if begins(&["LOADING", "MASTERDOWN", "MISCONF"]) {
        Cause::Unready { excerpt }
    } else if begins(&["NOAUTH", "WRONGPASS", "NOPERM", "DENIED"]) {
        Cause::Auth { excerpt }
    } else if begins(&["ERR max number of clients"]) {
        Cause::Full { excerpt }
    } else {
        Cause::WrongAnswer { excerpt }
    }
}

fn login_refused(error: &[u8]) -> Cause {
    match refused(error) {
        // `ERR AUTH … called without any password configured`, `ERR invalid password`, `ERR wrong number of arguments`.
        Cause::WrongAnswer { excerpt } => Cause::Auth { excerpt },
        other => other,
    }
}

/// It is said before any question is read.
fn is_turned_away(error: &[u8]) -> bool {
    error.starts_with(b"DENIED") || error.starts_with(b"ERR max number of clients")
}

fn wrong(what: &[u8]) -> Cause {
    Cause::WrongAnswer { excerpt: Excerpt::of(what) }
}

/// Redis's have 40.
const ID_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As Redis 7.0.15 answers, but for what is far from the question.
    fn info(lines: &str) -> Vec<u8> {
        let text = format!("# Replication\r\n{}\r\n", lines.replace(' ', "\r\n"));
        format!("${}\r\n{text}\r\n", text.len()).into_bytes()
    }

    const RUN_ID: &[u8] =
        b"$64\r\n# Server\r\nrun_id:e89951d31eb02f6facf5ed2fb43b79460bb1c3f5\r\nx:y\r\n\r\n";
    const MASTER: &[u8] =
        b"*3\r\n$6\r\nmaster\r\n:1407\r\n*1\r\n*3\r\n$9\r\n127.0.0.1\r\n$5\r\n16392\r\n$4\r\n1003\r\n";

    fn slave(state: &str, offset: i64) -> Vec<u8> {
        let length = state.len();
        format!("*5\r\n$5\r\nslave\r\n$9\r\n127.0.0.1\r\n:16391\r\n${length}\r\n{state}\r\n:{offset}\r\n")
            .into_bytes()
    }

    fn talk(password: &[u8], with_tls: bool) -> Talk {
        let judge: Judge = Box::new(|replies| Ok(Outcome::Role(server(replies)?.answer)));
        Talk::new((b"check", password), with_tls, &QUESTIONS, judge)
    }

    /// What comes of these replies, whole and byte by byte.
    fn heard(password: &[u8], replies: &[&[u8]]) -> String {
        let all = replies.concat();
        let one = |pieces: Vec<&[u8]>| {
            let mut talk = talk(password, false);
            assert!(matches!(talk.begin(), Step::Send(_)));
            let mut last = Step::More;
            for piece in pieces {
                assert!(matches!(last, Step::More), "{last:?}");
                last = talk.heard(piece);
                if !matches!(last, Step::More) {
                    break;
                }
            }
            match last {
                Step::Done(Outcome::Role(answer)) => format!("{} {:?}", answer.claim.word(), answer.position),
                Step::Bad(cause) => format!("{}: {cause}", cause.word()),
                other => format!("{other:?}"),
            }
        };
        let whole = one(vec![&all]);
        let word = |said: &str| said.split(':').next().unwrap_or_default().to_owned();
        assert_eq!(word(&whole), word(&one(all.chunks(1).collect())));
        whole
    }

    const OK: &[u8] = b"+OK\r\n";
    const PONG: &[u8] = b"+PONG\r\n";

    #[test]
    fn a_primary_and_a_replica_tell_their_role_and_their_place() {
        let nothing = info("role:master master_repl_offset:1407");
        assert_eq!(heard(b"probe", &[OK, PONG, MASTER, &nothing, RUN_ID]), "primary Some(1407)");
        assert_eq!(heard(b"", &[PONG, MASTER, &nothing, RUN_ID]), "primary Some(1407)", "without a login");
        let up = info("role:slave master_link_status:up slave_repl_offset:455");
        assert_eq!(heard(b"probe", &[OK, PONG, &slave("connected", 455), &up, RUN_ID]), "replica Some(455)");
        let noperm: &[u8] = b"-NOPERM this user has no permissions to run the 'info' command\r\n";
        assert_eq!(heard(b"probe", &[OK, PONG, MASTER, noperm, noperm]), "primary Some(1407)");
        assert_eq!(heard(b"probe", &[OK, PONG, &slave("connected", 7), noperm, noperm]), "replica Some(7)");
    }

    #[test]
    fn a_replica_without_its_primary_serves_what_it_had_if_it_had_it() {
        let cut = info(
            "role:slave master_link_status:down master_sync_in_progress:0 slave_repl_offset:455 master_link_down_since_seconds:1",
        );
        assert_eq!(heard(b"", &[PONG, &slave("connect", -1), &cut, RUN_ID]), "replica Some(455)");
        let noperm: &[u8] = b"-NOPERM no\r\n";
        for (state, info) in [
            (
                "connect",
                info(
                    "role:slave master_sync_in_progress:0 slave_repl_offset:0 master_link_down_since_seconds:-1",
                ),
            ),
            (
                "sync",
                info(
                    "role:slave master_sync_in_progress:1 slave_repl_offset:455 master_link_down_since_seconds:9",
                ),
            ),
            ("connecting", noperm.to_vec()),
        ] {
            let said = heard(b"", &[PONG, &slave(state, -1), &info, RUN_ID]);
            assert!(said.starts_with("starting: ") && said.contains(state), "{said}");
        }
    }

    #[test]
    fn who_serves_nobody_is_no_primary_whatever_role_says() {
        let info = info("role:master");
        for ping in [
            "-LOADING Redis is loading the dataset in memory\r\n",
            "-MASTERDOWN Link with MASTER is down\r\n",
        ] {
            let said = heard(b"probe", &[OK, ping.as_bytes(), MASTER, &info, RUN_ID]);
            assert!(said.starts_with("starting: "), "{said}");
        }
    }

    #[test]
    fn errors_are_told_apart() {
        let rest: &[&[u8]] = &[MASTER, RUN_ID, RUN_ID];
        let cases: [(&[u8], &[u8], &str); 8] = [
            (b"-WRONGPASS invalid username-password pair or user is disabled.\r\n", b"", "auth"),
            (b"-ERR wrong number of arguments for 'auth' command\r\n", b"", "auth"),
            (OK, b"-NOPERM this user has no permissions to run the 'ping' command\r\n", "auth"),
            (b"-ERR max number of clients reached\r\n", b"", "full"),
            (
                b"-DENIED Redis is running in protected mode because protected mode is enabled\r\n",
                b"",
                "auth",
            ),
            (OK, b"-BUSY Redis is busy running a script.\r\n", "wrong_answer"),
            (OK, b"$4\r\nwhat\r\n", "wrong_answer"),
            (b"HTTP/1.1 400 Bad Request\r\n", b"", "protocol"),
        ];
        for (login, ping, word) in cases {
            let said = heard(b"probe", &[&[login, ping], rest].concat());
            assert!(said.starts_with(&format!("{word}: ")), "{word}: {said}");
        }
        let noauth: &[u8] = b"-NOAUTH Authentication required.\r\n";
        assert!(heard(b"", &[noauth, noauth, noauth, noauth]).starts_with("auth: "));
        let sentinel: &[u8] = b"*2\r\n$8\r\nsentinel\r\n*1\r\n$4\r\nmain\r\n";
        assert!(heard(b"", &[PONG, sentinel, RUN_ID, RUN_ID]).contains("it is a Sentinel"));
    }

    #[test]
    fn a_kept_connection_logs_in_once_and_tls_comes_first() {
        let sent = |step| match step {
            Step::Send(bytes) => bytes,
            other => panic!("{other:?}"),
        };
        let mut talk = talk(b"probe", true);
        assert!(matches!(talk.begin(), Step::StartTls));
        let first = sent(talk.secured());
        assert!(first.starts_with(b"*3\r\n$4\r\nAUTH\r\n$5\r\ncheck\r\n$5\r\nprobe\r\n*1\r\n$4\r\nPING\r\n"));
        let info = info("role:master");
        let step = talk.heard(&[OK, PONG, MASTER, &info, RUN_ID].concat());
        assert!(matches!(step, Step::Done(_)), "{step:?}");
        let second = sent(talk.again());
        assert!(first.ends_with(&second) && second.starts_with(b"*1\r\n$4\r\nPING\r\n"));
        let step = talk.heard(&[PONG, MASTER, &info, RUN_ID].concat());
        assert!(matches!(step, Step::Done(_)), "{step:?}");
        assert!(matches!(talk.heard(b"-ERR shutting down\r\n"), Step::Gone(_)), "nobody asked");
        assert!(!format!("{talk:?}").contains("probe"));
    }

    #[test]
    fn the_number_of_a_start_is_read() {
        let bytes = [PONG, MASTER, &info("role:master"), RUN_ID].concat();
        let mut replies = Vec::new();
        let mut at = 0;
        while let Ok(Some((reply, length))) = resp::first(&bytes[at..]) {
            replies.push(reply);
            at += length;
        }
        assert_eq!(&*server(&replies).unwrap().run_id, "e89951d31eb02f6facf5ed2fb43b79460bb1c3f5");
    }

    proptest! {
        #[test]
        fn nothing_that_is_said_harms(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..200) {
            let mut all = [OK, PONG, MASTER, RUN_ID, RUN_ID].concat();
            all.splice(cut.min(all.len()).., bytes);
            let mut talk = talk(b"probe", false);
            talk.begin();
            for piece in all.chunks(7) {
                if !matches!(talk.heard(piece), Step::More) {
                    break;
                }
            }
        }
    }
}
