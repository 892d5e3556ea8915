//! MD5 (RFC 1321), for PostgreSQL's `md5` logins alone: deprecated there, and met everywhere.
//!
//! Pure.

/// What answers a salt: `md5` and the hash of the hash.
pub(super) fn answer(password: &[u8], user: &[u8], salt: &[u8]) -> String {
    let inner = hex(md5(&[password, user].concat()));
    format!("md5{}", hex(md5(&[inner.as_bytes(), salt].concat())))
}

fn hex(hash: [u8; 16]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn md5(text: &[u8]) -> [u8; 16] {
    let mut padded = text.to_vec();
    padded.push(0x80);
    padded.resize(padded.len().next_multiple_of(64), 0);
    if padded.len() - text.len() < 9 {
        padded.resize(padded.len() + 64, 0);
    }
    let end = padded.len() - 8;
    padded[end..].copy_from_slice(&(text.len() as u64 * 8).to_le_bytes());

    let mut state: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    for block in padded.chunks_exact(64) {
        let mut words = [0; 16];
        for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
            *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        let after = rounds(state, &words);
        for (word, more) in state.iter_mut().zip(after) {
            *word = word.wrapping_add(more);
        }
    }
    let mut hash = [0; 16];
    for (bytes, word) in hash.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    hash
}

fn rounds([mut a, mut b, mut c, mut d]: [u32; 4], words: &[u32; 16]) -> [u32; 4] {
    for step in 0..64 {
        let (mixed, word) = match step / 16 {
            0 => ((b & c) | (!b & d), step),
            1 => ((d & b) | (!d & c), (5 * step + 1) % 16),
            2 => (b ^ c ^ d, (3 * step + 5) % 16),
            _ => (c ^ (b | !d), 7 * step % 16),
        };
        let sum = a.wrapping_add(mixed).wrapping_add(sine(step)).wrapping_add(words[word]);
        (a, d, c, b) = (d, c, b, b.wrapping_add(sum.rotate_left(SHIFTS[step / 16][step % 4])));
    }
    [a, b, c, d]
}

/// The table of the RFC is made of sines: 2^32 times the amount of the sine of 1, 2, 3 ... radians.
fn sine(step: usize) -> u32 {
    let amount = ((step + 1) as f64).sin().abs() * 4_294_967_296.0;
    // Below 2^32, for no whole number has a sine of 1.
    #[allow(clippy::cast_possible_truncation)]
    let whole = amount as u32;
    whole
}

const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_the_rfc() {
        let cases = [
            ("", "d41d8cd98f00b204e9800998ecf8427e"),
            ("a", "0cc175b9c0f1b6a831c399e269772661"),
            ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
            (
                "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
                "57edf4a22be3c955ac49da2e2107b67a",
            ),
        ];
        for (text, hash) in cases {
            assert_eq!(hex(md5(text.as_bytes())), hash, "{text}");
        }
        // Padding grows by a block.
        assert_eq!(hex(md5(&[b'x'; 56])), "668a72d5ba17f08e62dabcafad6db14b");
    }
}
