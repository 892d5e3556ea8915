//! MySQL and MariaDB health check, `check: { mysql: … }`: logs in, asks what kind of server it is (alone, in a replication, a
//! member of a group, a Galera node), and then what this kind is to be asked for its role.
//!
//! Pure: bytes in, steps out. A login is always gone through with, also one that must fail: both count whoever leaves in the
//! middle, and block this host after a hundred of them, with all clients behind it.

mod errors;
mod flavours;
mod packets;
mod proofs;
#[cfg(test)]
mod tests;

use super::dialogue::{Dialogue, Step};
use super::outcome::{Cause, Excerpt, Outcome};
use crate::config::settings::{MysqlCheck, Tls};
use flavours::{Flavour, Variables};
use packets::Greeting;

/// One connection to a MySQL or MariaDB server.
#[derive(Debug)]
pub(super) struct Mysql {
    check: MysqlCheck,
    stage: Stage,
    heard: Vec<u8>,
    is_secured: bool,
}

#[derive(Debug)]
enum Stage {
    /// It speaks first.
    Greeted,
    /// TLS is asked for.
    Securing(Greeting),
    /// Who we are is said. The login fails for this reason, whatever the server says.
    LoggingIn { salt: Vec<u8>, lost: Option<Cause> },
    /// A question is asked.
    Asked(Question, Rows),
    /// Nothing is asked.
    Idle,
}

#[derive(Debug)]
enum Question {
    /// What it is.
    Variables,
    /// What this kind of server tells more.
    More(Flavour, Variables),
}

/// What came of an answer so far.
#[derive(Debug, Default)]
struct Rows {
    columns: Option<u64>,
    /// Their descriptions are over.
    is_described: bool,
    rows: Vec<Vec<String>>,
}

impl Mysql {
    /// Nothing is said yet.
    pub(super) fn new(check: MysqlCheck) -> Self {
        Self { check, stage: Stage::Greeted, heard: Vec::new(), is_secured: false }
    }

    fn ask(&mut self, question: Question) -> Step {
        let text = match &question {
            Question::Variables => flavours::VARIABLES,
            Question::More(flavour, _) => flavour.question(),
        };
        self.stage = Stage::Asked(question, Rows::default());
        Step::Send(packets::packet(0, &[&[COM_QUERY], text.as_bytes()].concat()))
    }

    /// Takes one packet.
    fn take(&mut self, sequence: u8, body: &[u8]) -> Step {
        if let Some((number, text)) = packets::error(body) {
            return self.refused(errors::cause(number, &text));
        }
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Greeted => self.greeted(sequence, body),
            // Nobody speaks before TLS stands.
            Stage::Securing(_) => protocol(body),
            Stage::LoggingIn { salt, lost } => self.logging_in(sequence, body, salt, lost),
            Stage::Asked(question, rows) => self.answered(body, question, rows),
            Stage::Idle => Step::Gone(Cause::Closed),
        }
    }

    fn refused(&mut self, cause: Cause) -> Step {
        match &mut self.stage {
            Stage::LoggingIn { lost: Some(lost), .. } => Step::Bad(lost.clone()),
            Stage::Idle => Step::Gone(cause),
            _ => Step::Bad(cause),
        }
    }

    fn greeted(&mut self, sequence: u8, body: &[u8]) -> Step {
        let Some(greeting) = packets::greeting(body) else { return protocol(body) };
        let has_tls = greeting.capabilities & packets::TLS != 0;
        match &self.check.tls {
            Tls::On(_) if !has_tls => {
                let excerpt = Excerpt::text("the server has none; `tls: try` or `off` goes without");
                self.log_in(&greeting, sequence.wrapping_add(1), Some(Cause::Tls { excerpt }))
            }
            Tls::On(_) | Tls::Try if has_tls => {
                let request = packets::tls_request(packets::capabilities(&greeting, true));
                self.stage = Stage::Securing(greeting);
                Step::SendThenTls(packets::packet(sequence.wrapping_add(1), &request))
            }
            _ => self.log_in(&greeting, sequence.wrapping_add(1), None),
        }
    }

    fn log_in(&mut self, greeting: &Greeting, sequence: u8, lost: Option<Cause>) -> Step {
        let capabilities = packets::capabilities(greeting, self.is_secured);
        // What is not spoken here is answered as the oldest of what is: then the server says what the account wants.
        let is_known = [proofs::NATIVE, proofs::SHA2].contains(&&*greeting.plugin);
        let plugin = if is_known { &*greeting.plugin } else { proofs::NATIVE };
        let proof = match &lost {
            Some(_) => Vec::new(),
            None => proofs::proof(plugin, self.check.password.expose(), &greeting.salt).unwrap_or_default(),
        };
        let login = packets::login(capabilities, &self.check.user, &proof, plugin);
        self.stage = Stage::LoggingIn { salt: greeting.salt.clone(), lost };
        Step::Send(packets::packet(sequence, &login))
    }

    fn logging_in(&mut self, sequence: u8, body: &[u8], mut salt: Vec<u8>, lost: Option<Cause>) -> Step {
        let (reply, lost) = match body {
            // A login that was to fail, and did not, proves nothing.
            [0, ..] => match lost {
                Some(cause) => return Step::Bad(cause),
                None => return self.ask(Question::Variables),
            },
            [0xfe, rest @ ..] => {
                let mut rest = packets::Rest(rest);
                let plugin = String::from_utf8_lossy(rest.text().unwrap_or_default()).into_owned();
                let more = rest.0.strip_suffix(b"\0").unwrap_or(rest.0);
                if !more.is_empty() {
                    salt = more.to_vec();
                }
                match proofs::proof(&plugin, self.check.password.expose(), &salt) {
                    Some(proof) if lost.is_none() => (proof, lost),
                    Some(_) => (Vec::new(), lost),
                    None => (vec![0], lost.or_else(|| Some(unspoken(&plugin)))),
                }
            }
            // The password was proven; the server says once more that all is well.
            [1, 3] => {
                self.stage = Stage::LoggingIn { salt, lost };
                return Step::More;
            }
            [1, 4] if self.is_secured && lost.is_none() => {
                ([self.check.password.expose(), b"\0"].concat(), lost)
            }
            [1, 4] => (vec![0], lost.or_else(|| Some(in_the_clear()))),
            _ => return protocol(body),
        };
        self.stage = Stage::LoggingIn { salt, lost };
        Step::Send(packets::packet(sequence.wrapping_add(1), &reply))
    }

    fn answered(&mut self, body: &[u8], question: Question, mut rows: Rows) -> Step {
        match rows.columns {
            None => match packets::columns(body) {
                Some(columns) => rows.columns = Some(columns),
                None => return protocol(body),
            },
            Some(_) if !rows.is_described => rows.is_described = packets::is_end(body),
            Some(_) if packets::is_end(body) => return self.judge(question, &rows.rows),
            Some(columns) => match packets::row(body, columns) {
                Some(row) => rows.rows.push(row),
                None => return protocol(body),
            },
        }
        self.stage = Stage::Asked(question, rows);
        Step::More
    }

    fn judge(&mut self, question: Question, rows: &[Vec<String>]) -> Step {
        let judged = match question {
            Question::Variables => {
                let variables = Variables::of(rows);
                match variables.flavour() {
                    Flavour::MariaDb => flavours::alone(&variables, None),
                    flavour => return self.ask(Question::More(flavour, variables)),
                }
            }
            Question::More(Flavour::MySql, variables) => flavours::alone(&variables, rows.first()),
            Question::More(Flavour::Group, variables) => flavours::group(&variables, rows),
            Question::More(Flavour::Galera, variables) => {
                flavours::galera(&variables, &Variables::of(rows), self.check.donors)
            }
            Question::More(Flavour::MariaDb, variables) => flavours::alone(&variables, None),
        };
        self.stage = Stage::Idle;
        match judged {
            Ok(answer) => Step::Done(Outcome::Role(answer)),
            // The connection is as good as before: it is no fault of it.
            Err(cause) => Step::Done(Outcome::Bad(cause)),
        }
    }
}

impl Dialogue for Mysql {
    fn begin(&mut self) -> Step {
        Step::More
    }

    fn again(&mut self) -> Step {
        self.heard.clear();
        self.ask(Question::Variables)
    }

    fn secured(&mut self) -> Step {
        self.is_secured = true;
        self.heard.clear();
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            // The request for TLS was the first answer to it.
            Stage::Securing(greeting) => self.log_in(&greeting, 2, None),
            _ => protocol(b"TLS where none was asked for"),
        }
    }

    fn heard(&mut self, bytes: &[u8]) -> Step {
        self.heard.extend_from_slice(bytes);
        let heard = std::mem::take(&mut self.heard);
        let mut at = 0;
        while let Some(packet) = packets::first(&heard[at..]) {
            at += packet.length;
            match self.take(packet.sequence, packet.body) {
                Step::More => {}
                // What comes behind it belongs to nothing that was asked.
                _ if at < heard.len() => return protocol(&heard[at..]),
                step => return step,
            }
        }
        if packets::is_too_long(&heard[at..]) {
            return protocol(&heard[at..]);
        }
        self.heard = heard[at..].to_vec();
        Step::More
    }

    /// COM_QUIT, once it would be heard: during a login it counts like any other failure.
    fn farewell(&self) -> &'static [u8] {
        match self.stage {
            Stage::Asked(..) | Stage::Idle => b"\x01\x00\x00\x00\x01",
            Stage::Greeted | Stage::Securing(_) | Stage::LoggingIn { .. } => b"",
        }
    }
}

fn unspoken(plugin: &str) -> Cause {
    let why = format!(
        "the account `user` wants `{plugin}`, which is not spoken here, or there is no such account; mysql_native_password and caching_sha2_password are"
    );
    Cause::Auth { excerpt: Excerpt::text(&why) }
}

fn in_the_clear() -> Cause {
    let why = "caching_sha2_password wants the password itself, as after each restart of the server, and that is said over TLS only; write `tls: try`, or give the account no password";
    Cause::Auth { excerpt: Excerpt::text(why) }
}

fn protocol(body: &[u8]) -> Step {
    Step::Bad(Cause::Protocol { excerpt: Excerpt::of(body) })
}

const COM_QUERY: u8 = 3;

/// Whatever a server says, in pieces of whatever size, for the fuzzer.
#[cfg(fuzzing)]
pub fn fuzz(bytes: &[u8]) {
    use crate::config::settings::{Donors, Secret, SecretSource};
    let [tls, piece, said @ ..] = bytes else { return };
    let password = Secret::new(SecretSource::Here, b"secret");
    let tls = if tls & 1 == 0 { Tls::Off } else { Tls::Try };
    let check = MysqlCheck { user: "check".into(), password, tls, donors: Donors::Out };
    super::dialogue::fuzz(&mut Mysql::new(check), said.chunks(usize::from(*piece).max(1)));
}
