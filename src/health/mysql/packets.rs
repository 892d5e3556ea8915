//! Packets of the MySQL protocol: frames, the greeting, what we answer to it, and rows.
//!
//! Pure. Nothing is kept ready for what is only announced: what does not fit into what came is not whole.

/// One packet, and where the next begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    /// What our answer to it counts on from.
    pub sequence: u8,
    /// What is in it.
    pub body: &'a [u8],
    /// Its length with what stands in front.
    pub length: usize,
}

/// The first packet; `None`: it is not whole yet.
pub(super) fn first(heard: &[u8]) -> Option<Packet<'_>> {
    let [low, middle, high, sequence] = *heard.first_chunk()?;
    let length = usize::from(low) | usize::from(middle) << 8 | usize::from(high) << 16;
    let body = heard.get(4..4 + length)?;
    Some(Packet { sequence, body, length: 4 + length })
}

/// More is announced than a check listens to.
pub(super) fn is_too_long(heard: &[u8]) -> bool {
    matches!(heard, [_, _, high, ..] if *high > 0)
}

/// A packet that says this. No more than 16 MiB.
pub(super) fn packet(sequence: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes = vec![length[0], length[1], length[2], sequence];
    bytes.extend_from_slice(body);
    bytes
}

/// What a server says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Greeting {
    /// What it can.
    pub capabilities: u32,
    /// What passwords are scrambled with.
    pub salt: Vec<u8>,
    /// How it would like to be told them; empty: it does not say.
    pub plugin: String,
    /// It is a MariaDB.
    pub is_mariadb: bool,
}

/// Reads version 10 of it, the only one since 1998.
pub(super) fn greeting(body: &[u8]) -> Option<Greeting> {
    let mut rest = Rest(body);
    if rest.byte()? != 10 {
        return None;
    }
    let version = rest.text()?;
    rest.take(4)?;
    let mut salt = rest.take(8)?.to_vec();
    rest.take(1)?;
    let low = rest.take(2)?;
    let mut capabilities = u32::from(u16::from_le_bytes([low[0], low[1]]));
    let mut plugin = String::new();
    if rest.take(3).is_some() {
        let high = rest.take(2)?;
        capabilities |= u32::from(u16::from_le_bytes([high[0], high[1]])) << 16;
        let length = usize::from(rest.byte()?);
        rest.take(10)?;
        let more = rest.take(length.saturating_sub(8).max(13))?;
        salt.extend(more.iter().take(SALT_BYTES - 8));
        plugin = String::from_utf8_lossy(rest.text().unwrap_or(rest.0)).into_owned();
    }
    let is_mariadb = version.windows(7).any(|part| part == b"MariaDB");
    Some(Greeting { capabilities, salt, plugin, is_mariadb })
}

/// What we can, of what a server can.
pub(super) fn capabilities(greeting: &Greeting, with_tls: bool) -> u32 {
    let wanted = LONG_PASSWORD | PROTOCOL_41 | TRANSACTIONS | SECURE_CONNECTION | PLUGIN_AUTH;
    wanted & greeting.capabilities | PROTOCOL_41 | if with_tls { TLS } else { 0 }
}

/// Asks for TLS: the beginning of what is said then.
pub(super) fn tls_request(capabilities: u32) -> Vec<u8> {
    let mut body = capabilities.to_le_bytes().to_vec();
    body.extend_from_slice(&PACKET_BYTES_MAX.to_le_bytes());
    body.push(UTF8MB4);
    body.extend_from_slice(&[0; 23]);
    body
}

/// Says who we are.
pub(super) fn login(capabilities: u32, user: &str, proof: &[u8], plugin: &str) -> Vec<u8> {
    let mut body = tls_request(capabilities);
    body.extend_from_slice(user.as_bytes());
    // Proofs have 32 bytes at most.
    body.extend_from_slice(&[0, u8::try_from(proof.len()).unwrap_or(0)]);
    body.extend_from_slice(proof);
    if capabilities & PLUGIN_AUTH != 0 {
        body.extend_from_slice(plugin.as_bytes());
        body.push(0);
    }
    body
}

/// An error that a server tells: its number and its text.
pub(super) fn error(body: &[u8]) -> Option<(u16, String)> {
    let [0xff, low, high, rest @ ..] = body else { return None };
    // `#28000` stands in front once both sides know what the other can.
    let text = if rest.first() == Some(&b'#') { rest.get(6..).unwrap_or_default() } else { rest };
    Some((u16::from_le_bytes([*low, *high]), String::from_utf8_lossy(text).into_owned()))
}

/// The end of columns or rows.
pub(super) fn is_end(body: &[u8]) -> bool {
    body.first() == Some(&0xfe) && body.len() < 9
}

/// How many columns a result has; `None`: it has none.
pub(super) fn columns(body: &[u8]) -> Option<u64> {
    let mut rest = Rest(body);
    rest.number().filter(|count| *count > 0 && rest.0.is_empty())
}

/// The values of a row of so many columns, nulls as nothing; `None`: it is none.
pub(super) fn row(body: &[u8], columns: u64) -> Option<Vec<String>> {
    let mut rest = Rest(body);
    let mut values = Vec::new();
    for _ in 0..columns {
        if rest.0.first() == Some(&0xfb) {
            rest.take(1)?;
            values.push(String::new());
            continue;
        }
        let length = usize::try_from(rest.number()?).ok()?;
        values.push(String::from_utf8_lossy(rest.take(length)?).into_owned());
    }
    rest.0.is_empty().then_some(values)
}

/// What is left to read.
pub(super) struct Rest<'a>(pub &'a [u8]);

impl<'a> Rest<'a> {
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.0.get(..length)?;
        self.0 = &self.0[length..];
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|one| one[0])
    }

    /// Up to a zero, which is taken as well.
    pub(super) fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.0.iter().position(|byte| *byte == 0)?;
        let text = self.take(length)?;
        self.take(1)?;
        Some(text)
    }

    /// A number of a length that its first byte tells.
    fn number(&mut self) -> Option<u64> {
        let length = match self.byte()? {
            small @ 0..=0xfa => return Some(small.into()),
            0xfc => 2,
            0xfd => 3,
            0xfe => 8,
            _ => return None,
        };
        let mut bytes = [0; 8];
        bytes[..length].copy_from_slice(self.take(length)?);
        Some(u64::from_le_bytes(bytes))
    }
}

/// It has TLS.
pub(super) const TLS: u32 = 0x800;
const LONG_PASSWORD: u32 = 0x1;
const PROTOCOL_41: u32 = 0x200;
const TRANSACTIONS: u32 = 0x2000;
const SECURE_CONNECTION: u32 = 0x8000;
const PLUGIN_AUTH: u32 = 0x8_0000;
const SALT_BYTES: usize = 20;
const PACKET_BYTES_MAX: u32 = 1 << 24;
const UTF8MB4: u8 = 45;
