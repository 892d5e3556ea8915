//! SCRAM-SHA-256 (RFC 5802, RFC 7677), the client's side, without channel binding.
//!
//! Pure. The server's own proof is looked at: it is how it shows that it knows the password. A password is taken as its bytes
//! are (SASLprep changes nothing in one that is ASCII, or normalized already).

use std::num::NonZeroU32;

use ring::{digest, hmac, pbkdf2};

use crate::base64;

/// Its name.
pub(super) const NAME: &str = "SCRAM-SHA-256";

/// Where a login stands.
pub(super) struct Scram {
    nonce: String,
    challenge: Option<Challenge>,
    /// What the server signs, and with what.
    expected: Option<(hmac::Key, String)>,
    is_done: bool,
}

struct Challenge {
    /// As it came.
    text: String,
    nonce: String,
    salt: Vec<u8>,
    rounds: u32,
}

/// What a password is worked out with.
#[derive(Debug)]
pub(super) struct Salted {
    pub salt: Vec<u8>,
    pub rounds: u32,
}

impl std::fmt::Debug for Scram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scram")
    }
}

impl Scram {
    pub(super) fn new(nonce: &str) -> Self {
        Self { nonce: nonce.to_owned(), challenge: None, expected: None, is_done: false }
    }

    /// The first message. Who has no channel binding says `n`: `y` would say that the server has none either.
    pub(super) fn first(&self) -> String {
        format!("n,,{}", self.bare())
    }

    /// The user is empty: the one of the startup message counts.
    fn bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }

    /// Takes the salt.
    pub(super) fn challenged(&mut self, said: &[u8]) -> Result<Salted, &'static str> {
        if self.challenge.is_some() {
            return Err("SCRAM: a second challenge");
        }
        let text = std::str::from_utf8(said).map_err(|_| "SCRAM: a challenge that is no text")?;
        let field = |name: &str| text.split(',').find_map(|field| field.strip_prefix(name));
        let (Some(nonce), Some(salt), Some(rounds)) = (field("r="), field("s="), field("i=")) else {
            return Err("SCRAM: a challenge without nonce, salt or rounds");
        };
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err("SCRAM: the nonce is not ours");
        }
        let salt =
            base64::decode(salt).filter(|salt| !salt.is_empty()).ok_or("SCRAM: the salt is no base64")?;
        let rounds = rounds.parse().ok().filter(|rounds| (1..=ROUNDS_MAX).contains(rounds));
        let rounds = rounds.ok_or("SCRAM: more than 1,000,000 rounds are asked for")?;
        let salted = Salted { salt: salt.clone(), rounds };
        self.challenge = Some(Challenge { text: text.to_owned(), nonce: nonce.to_owned(), salt, rounds });
        Ok(salted)
    }

    /// What the challenge salts with.
    pub(super) fn salt(&self) -> Option<(Vec<u8>, u32)> {
        self.challenge.as_ref().map(|challenge| (challenge.salt.clone(), challenge.rounds))
    }

    /// Our proof, out of the salted password.
    pub(super) fn proof(&mut self, salted: &[u8]) -> String {
        let Some(challenge) = &self.challenge else { return String::new() };
        let sign = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
        // `biws` is `n,,`.
        let bare = format!("c=biws,r={}", challenge.nonce);
        let all = format!("{},{},{bare}", self.bare(), challenge.text);
        let client = sign(salted, b"Client Key");
        let stored = digest::digest(&digest::SHA256, client.as_ref());
        let signature = sign(stored.as_ref(), all.as_bytes());
        let proof: Vec<u8> = client.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        let server = sign(salted, b"Server Key");
        self.expected = Some((hmac::Key::new(hmac::HMAC_SHA256, server.as_ref()), all));
        format!("{bare},p={}", base64::encode(&proof))
    }

    /// Looks at the server's proof.
    pub(super) fn verified(&mut self, said: &[u8]) -> Result<(), &'static str> {
        let text = std::str::from_utf8(said).unwrap_or_default();
        let signature = text.split(',').find_map(|field| field.strip_prefix("v=")).and_then(base64::decode);
        match (&self.expected, signature) {
            (Some((key, all)), Some(signature)) if hmac::verify(key, all.as_bytes(), &signature).is_ok() => {
                self.is_done = true;
                Ok(())
            }
            _ => Err("the server does not know the password either: it is not the one it should be"),
        }
    }

    /// The server has shown its proof.
    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }
}

/// The salted password: milliseconds, or most of a second with the most rounds that are allowed.
pub(super) fn salted(password: &[u8], salt: &[u8], rounds: u32) -> Vec<u8> {
    let mut salted = vec![0; digest::SHA256_OUTPUT_LEN];
    let rounds = NonZeroU32::new(rounds).unwrap_or(NonZeroU32::MIN);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, password, &mut salted);
    salted
}

/// A server may ask for any number: this is 0.7 s.
const ROUNDS_MAX: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exchange_of_rfc_7677() {
        let mut scram = Scram::new("rOprNGfwEbeRWgbNEkqO");
        // There the user is named; here it never is.
        assert_eq!(scram.first(), "n,,n=,r=rOprNGfwEbeRWgbNEkqO");
        let challenge =
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let salt = scram.challenged(challenge.as_bytes()).unwrap();
        let salted = salted(b"pencil", &salt.salt, salt.rounds);
        let proof = scram.proof(&salted);
        // Worked out by another program (Python's hashlib) for the empty user.
        assert!(proof.ends_with(",p=qvT2SWdEH5Q06albL+hjSYuUhCG7VndFyzIb7CK4n9k="), "{proof}");
        assert!(!scram.is_done());
        assert!(scram.verified(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").is_err(), "another user's");
        assert!(scram.verified(b"v=3HO6Qt1M4MKJrmlKaoOqLAI0/0TV0HZe7J9H3MBtSOg=").is_ok());
        assert!(scram.is_done());
    }

    #[test]
    fn a_challenge_that_is_not_right_is_refused() {
        let cases: [&[u8]; 9] = [
            b"",
            b"r=abc",
            b"r=abcd,s=W22Z",
            b"r=abc,s=W22Z,i=1",
            b"r=xabcd,s=W22Z,i=1",
            b"r=abcd,s=,i=1",
            b"r=abcd,s=W22Z,i=0",
            b"r=abcd,s=W22Z,i=1000001",
            b"r=abcd,s=\xff,i=2147483648",
        ];
        for said in cases {
            assert!(Scram::new("abc").challenged(said).is_err(), "{:?}", said.escape_ascii().to_string());
        }
        let mut scram = Scram::new("abc");
        assert!(scram.verified(b"v=").is_err(), "before anything was said");
        assert_eq!(scram.challenged(b"r=abcd,s=W22Z,i=1000000").unwrap().rounds, 1_000_000);
        assert!(scram.challenged(b"r=abcd,s=W22Z,i=1").is_err(), "a second one");
    }
}
