//! PostgreSQL health check, `check: { postgres }`: logs in, asks one question, and knows from the row what the server is, on which
//! timeline, of which cluster and how far.
//!
//! Pure: bytes in, steps out. It needs no privilege but to log in. On the way: TLS by SSLRequest, and trust, password, md5 or
//! SCRAM-SHA-256, whichever the server asks for. PgBouncer and other poolers may stand in between. What errors mean is `errors.rs`'
//! matter.

mod errors;
mod md5;
mod messages;
mod scram;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::dialogue::{Dialogue, HEARD_BYTES_MAX, Step};
use super::outcome::{Cause, Excerpt, Outcome};
use crate::config::settings::{PostgresCheck, Tls};
use crate::roles::{Answer, Claim, Generation};
use messages::{Frame, Unreadable};
use scram::Scram;

/// One connection to a PostgreSQL server.
#[derive(Debug)]
pub(super) struct Postgres {
    check: PostgresCheck,
    nonce: String,
    remembered: Arc<Remembered>,
    /// The server lacks functions of the whole question. Outlives the connection: a server logs each error.
    is_plain: Arc<AtomicBool>,
    stage: Stage,
    heard: Vec<u8>,
    /// The row that came.
    row: Option<Outcome>,
    /// What is wrong, until the server is ready again.
    trouble: Option<Trouble>,
    /// How often the question came between two roles.
    straddled: u8,
    is_secured: bool,
}

#[derive(Debug)]
enum Stage {
    /// Whether TLS is there.
    AskedTls,
    /// Who we are is said.
    LoggingIn,
    /// SCRAM: our first message is said, then our proof is, then the server has shown its own.
    Scram(Box<Scram>),
    /// It is proven on both sides, or there was nothing to prove.
    Proven,
    /// The question is asked.
    Asked,
    /// Nothing is asked.
    Idle,
}

/// What an error of the question means, once the server is ready again.
#[derive(Debug)]
enum Trouble {
    /// The server became something else meanwhile.
    Straddled,
    /// It lacks a function, or forbids it.
    Lacking,
    /// This.
    Wrong(Cause),
}

impl Postgres {
    /// `nonce` is used once.
    pub(super) fn new(
        check: PostgresCheck,
        nonce: String,
        remembered: Arc<Remembered>,
        is_plain: Arc<AtomicBool>,
    ) -> Self {
        Self {
            check,
            nonce,
            remembered,
            is_plain,
            stage: Stage::AskedTls,
            heard: Vec::new(),
            row: None,
            trouble: None,
            straddled: 0,
            is_secured: false,
        }
    }

    fn log_in(&mut self) -> Step {
        self.stage = Stage::LoggingIn;
        Step::Send(messages::startup(&self.check.user, &self.check.database))
    }

    fn ask(&mut self) -> Step {
        (self.row, self.trouble, self.stage) = (None, None, Stage::Asked);
        let question = if self.is_plain.load(Ordering::Relaxed) { PLAIN_QUESTION } else { QUESTION };
        Step::Send(messages::query(question))
    }

    /// The one byte that answers whether TLS is there.
    fn tls_answer(&mut self) -> Option<Step> {
        let first = *self.heard.first()?;
        match (first, &self.check.tls) {
            // More would be said by somebody in between, before anything is encrypted.
            (b'S', _) if self.heard.len() > 1 => Some(protocol(b"bytes ahead of TLS")),
            (b'S', _) => {
                self.heard.clear();
                Some(Step::StartTls)
            }
            (b'N', Tls::On(_)) => Some(Step::Bad(Cause::Tls {
                excerpt: Excerpt::text(
                    "the server has none (`ssl` is off); `tls: try` or `off` goes without",
                ),
            })),
            (b'N', _) => {
                self.heard.remove(0);
                Some(self.log_in())
            }
            // An error in its own words: too many processes, for one.
            (b'E', _) => {
                self.stage = Stage::LoggingIn;
                None
            }
            _ => Some(protocol(&self.heard)),
        }
    }

    /// `None`: go on with the next one.
    fn take(&mut self, frame: &Frame) -> Option<Step> {
        match (frame.kind, &mut self.stage) {
            // Parameters, notices, keys to cancel, a protocol version that we do not ask for: no answers.
            (b'S' | b'N' | b'K' | b'v' | b'A', _) => None,
            (b'E', _) => self.error(&frame.body),
            (b'R', Stage::LoggingIn | Stage::Scram(_)) => self.authentication(&frame.body),
            (b'Z', Stage::Proven) => Some(self.ask()),
            (b'T' | b'C', Stage::Asked) => None,
            (b'D', Stage::Asked) => {
                let is_plain = self.is_plain.load(Ordering::Relaxed);
                match messages::columns(&frame.body).and_then(|columns| role(&columns, is_plain)) {
                    Some(answer) if self.row.is_none() => {
                        self.row = Some(Outcome::Role(answer));
                        None
                    }
                    _ => Some(protocol(b"a row that is not the answer")),
                }
            }
            (b'Z', Stage::Asked) => Some(self.ready()),
            _ => Some(protocol(&[frame.kind])),
        }
    }

    /// The question is over.
    fn ready(&mut self) -> Step {
        self.stage = Stage::Idle;
        match (self.trouble.take(), self.row.take()) {
            (None, Some(outcome)) => {
                self.straddled = 0;
                Step::Done(outcome)
            }
            (Some(Trouble::Straddled), _) if self.straddled < STRADDLED_MAX => {
                self.straddled += 1;
                self.ask()
            }
            (Some(Trouble::Lacking), _) if !self.is_plain.swap(true, Ordering::Relaxed) => self.ask(),
            (Some(Trouble::Wrong(cause)), _) => Step::Bad(cause),
            (Some(Trouble::Straddled | Trouble::Lacking) | None, _) => protocol(b"no row"),
        }
    }

    fn error(&mut self, body: &[u8]) -> Option<Step> {
        let error = messages::error(body);
        let is_over = error.is_fatal || !matches!(self.stage, Stage::Asked);
        match error.code.as_str() {
            "55000" if !is_over => self.trouble = Some(Trouble::Straddled),
            "0A000" | "42883" | "42501" if !is_over && !self.is_plain.load(Ordering::Relaxed) => {
                self.trouble = Some(Trouble::Lacking);
            }
            code if errors::says_nothing(code) => return Some(Step::Gone(Cause::Closed)),
            _ if is_over => return Some(Step::Bad(errors::cause(&error, self.is_secured))),
            _ => self.trouble = Some(Trouble::Wrong(errors::cause(&error, self.is_secured))),
        }
        None
    }

    fn authentication(&mut self, body: &[u8]) -> Option<Step> {
        let auth = |said: &str| Some(Step::Bad(Cause::Auth { excerpt: Excerpt::text(said) }));
        let Some((kind, rest)) = messages::number(body) else { return Some(protocol(body)) };
        if matches!(kind, 3 | 5 | 10) && self.check.password.is_none() {
            return auth("the server asks for a password, and the check has none");
        }
        let password = self.check.password.expose();
        match (kind, &mut self.stage) {
            // SCRAM that ends before the server has shown its proof would be anybody's.
            (0, Stage::Scram(scram)) if !scram.is_done() => Some(protocol(b"let in without a proof")),
            (0, _) => {
                self.stage = Stage::Proven;
                None
            }
            (3, Stage::LoggingIn) => Some(Step::Send(messages::password(password))),
            (5, Stage::LoggingIn) => match rest.get(..4) {
                Some(salt) => {
                    let hash = md5::answer(password, self.check.user.as_bytes(), salt);
                    Some(Step::Send(messages::password(hash.as_bytes())))
                }
                None => Some(protocol(body)),
            },
            (10, Stage::LoggingIn) => {
                if !messages::strings(rest).contains(&scram::NAME) {
                    return auth("the server offers no SCRAM-SHA-256, which is the SASL that is spoken here");
                }
                let scram = Scram::new(&self.nonce);
                let first = messages::sasl_first(scram::NAME, scram.first().as_bytes());
                self.stage = Stage::Scram(Box::new(scram));
                Some(Step::Send(first))
            }
            (11, Stage::Scram(scram)) => Some(match scram.challenged(rest) {
                Ok(salted) => {
                    let key = (Arc::<[u8]>::from(password), salted.salt, salted.rounds);
                    if let Some(known) = self.remembered.get(&key) {
                        return Some(self.proof(&known));
                    }
                    Step::Work(Box::new(move || scram::salted(&key.0, &key.1, key.2)))
                }
                Err(why) => Step::Bad(Cause::Protocol { excerpt: Excerpt::text(why) }),
            }),
            (12, Stage::Scram(scram)) => match scram.verified(rest) {
                Ok(()) => None,
                Err(why) => auth(why),
            },
            (2 | 6 | 7 | 8 | 9, _) => {
                auth("the server asks for Kerberos, GSS or SSPI, which a check does not speak")
            }
            _ => Some(protocol(body)),
        }
    }

    fn proof(&mut self, salted: &[u8]) -> Step {
        match &mut self.stage {
            Stage::Scram(scram) => Step::Send(messages::message(b'p', scram.proof(salted).as_bytes())),
            _ => protocol(b""),
        }
    }
}

impl Dialogue for Postgres {
    fn begin(&mut self) -> Step {
        match self.check.tls {
            Tls::Off => self.log_in(),
            Tls::Try | Tls::On(_) => Step::Send(messages::SSL_REQUEST.to_vec()),
        }
    }

    fn again(&mut self) -> Step {
        self.straddled = 0;
        self.ask()
    }

    fn secured(&mut self) -> Step {
        self.is_secured = true;
        self.log_in()
    }

    fn heard(&mut self, bytes: &[u8]) -> Step {
        if self.heard.len() + bytes.len() > HEARD_BYTES_MAX {
            return protocol(b"a message of more than 64 KiB");
        }
        self.heard.extend_from_slice(bytes);
        if matches!(self.stage, Stage::AskedTls)
            && let Some(step) = self.tls_answer()
        {
            return step;
        }
        loop {
            match messages::next(&mut self.heard) {
                Ok(None) => return Step::More,
                Ok(Some(frame)) => {
                    if let Some(step) = self.take(&frame) {
                        return step;
                    }
                }
                Err(Unreadable) => return protocol(&self.heard),
            }
        }
    }

    fn worked(&mut self, salted: Vec<u8>) -> Step {
        if let Stage::Scram(scram) = &self.stage
            && let Some((salt, rounds)) = scram.salt()
        {
            let key = (Arc::<[u8]>::from(self.check.password.expose()), salt, rounds);
            self.remembered.put(key, salted.clone());
        }
        self.proof(&salted)
    }

    /// Before it is ready a server takes this for a mistake, and logs it.
    fn farewell(&self) -> &'static [u8] {
        match self.stage {
            Stage::Asked | Stage::Idle => messages::TERMINATE,
            _ => b"",
        }
    }
}

/// Passwords that were worked out, by password, salt and rounds: servers of one cluster share the salt.
#[derive(Default)]
pub(super) struct Remembered(Mutex<HashMap<Salted, Vec<u8>>>);

type Salted = (Arc<[u8]>, Vec<u8>, u32);

impl Remembered {
    fn get(&self, key: &Salted) -> Option<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn put(&self, key: Salted, salted: Vec<u8>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REMEMBERED_MAX {
            // Salts that no server has any more, or one that makes them up.
            all.clear();
        }
        all.insert(key, salted);
    }
}

impl fmt::Debug for Remembered {
    /// It holds passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remembered")
    }
}

/// What a row says. `None`: it is none of ours.
fn role(columns: &[Option<&str>], is_plain: bool) -> Option<Answer> {
    let is_true = |text: &str| match text {
        "t" => Some(true),
        "f" => Some(false),
        _ => None,
    };
    let (is_replica, is_read_only) = match (columns.first()?, columns.get(1)?) {
        (Some(recovers), Some(read_only)) => (is_true(recovers)?, *read_only == "on"),
        _ => return None,
    };
    // It was told to take no writes: whoever sends some gets the same error as from a replica.
    let claim = if is_replica || is_read_only { Claim::Replica } else { Claim::Primary };
    if is_plain {
        return (columns.len() == 2).then_some(Answer { claim, generation: None, position: None });
    }
    let [_, _, timeline, position, lineage] = columns else { return None };
    let number = |text: &Option<&str>| text.map(str::parse::<u64>).transpose().ok();
    let lineage = (*lineage)?;
    if lineage.len() > LINEAGE_BYTES_MAX {
        return None;
    }
    let generation = Generation { lineage: lineage.into(), number: number(timeline)?.unwrap_or(0) };
    Some(Answer { claim, generation: Some(generation), position: number(position)? })
}

/// Whatever a server says, in pieces of whatever size, for the fuzzer.
#[cfg(fuzzing)]
pub fn fuzz(bytes: &[u8]) {
    use crate::config::settings::{Secret, SecretSource};
    let [tls, piece, said @ ..] = bytes else { return };
    let password = Secret::new(SecretSource::Here, b"secret");
    let tls = if tls & 1 == 0 { Tls::Off } else { Tls::Try };
    let check = PostgresCheck { user: "check".into(), password, database: "postgres".into(), tls };
    let mut dialogue =
        Postgres::new(check, "oSOCIinU4ABbQISUsl3TMHBU".into(), Arc::default(), Arc::default());
    let mut pieces = said.chunks(usize::from(*piece).max(1));
    let mut step = dialogue.begin();
    loop {
        let _ = dialogue.farewell();
        step = match step {
            Step::More | Step::Send(_) => match pieces.next() {
                Some(piece) => dialogue.heard(piece),
                None => return,
            },
            Step::StartTls | Step::SendThenTls(_) => dialogue.secured(),
            // What is worked out takes its time; that it fits is not looked for here.
            Step::Work(_) => dialogue.worked(vec![7; 32]),
            Step::Done(_) => dialogue.again(),
            Step::Bad(_) | Step::Gone(_) => return,
        };
    }
}

fn protocol(said: &[u8]) -> Step {
    Step::Bad(Cause::Protocol { excerpt: Excerpt::of(said) })
}

/// The timeline is that of what is written: `pg_control_checkpoint()` tells the old one for seconds after a promotion.
const QUESTION: &str = "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only'), \
    CASE WHEN pg_is_in_recovery() THEN (SELECT min_recovery_end_timeline FROM pg_control_recovery())::bigint \
    ELSE ('x'||substr(pg_walfile_name(pg_current_wal_lsn()),1,8))::bit(32)::bigint END, \
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END - '0/0', \
    (SELECT system_identifier FROM pg_control_system())";
/// Of a server that lacks some of it: managed ones do.
const PLAIN_QUESTION: &str = "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only')";
/// A promotion is over in no time; more than this is something else.
const STRADDLED_MAX: u8 = 3;
/// One for each password and cluster.
const REMEMBERED_MAX: usize = 4096;
/// A system identifier has 20 digits.
const LINEAGE_BYTES_MAX: usize = 64;

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
