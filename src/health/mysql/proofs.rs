//! Proofs of a password (authentication plugins): what `mysql_native_password` and `caching_sha2_password` want to hear.
//!
//! Pure. An empty password is proven by nothing, with either.

use ring::digest::{Algorithm, Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

/// The proof that this plugin wants, and `None` for one that is not spoken here.
pub(super) fn proof(plugin: &str, password: &[u8], salt: &[u8]) -> Option<Vec<u8>> {
    let nothing = password.is_empty();
    match plugin {
        NATIVE | SHA2 if nothing => Some(Vec::new()),
        NATIVE => Some(native(password, salt)),
        SHA2 => Some(sha2(password, salt)),
        _ => None,
    }
}

/// SHA1(p) xor SHA1(salt, SHA1(SHA1(p))).
fn native(password: &[u8], salt: &[u8]) -> Vec<u8> {
    let once = hash(&SHA1_FOR_LEGACY_USE_ONLY, &[password]);
    let twice = hash(&SHA1_FOR_LEGACY_USE_ONLY, &[&once]);
    xor(&once, &hash(&SHA1_FOR_LEGACY_USE_ONLY, &[salt, &twice]))
}

/// SHA256(p) xor SHA256(SHA256(SHA256(p)), salt).
fn sha2(password: &[u8], salt: &[u8]) -> Vec<u8> {
    let once = hash(&SHA256, &[password]);
    let twice = hash(&SHA256, &[&once]);
    xor(&once, &hash(&SHA256, &[&twice, salt]))
}

fn hash(algorithm: &'static Algorithm, parts: &[&[u8]]) -> Vec<u8> {
    let mut context = Context::new(algorithm);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().to_vec()
}

fn xor(one: &[u8], other: &[u8]) -> Vec<u8> {
    one.iter().zip(other).map(|(one, other)| one ^ other).collect()
}

/// MariaDB's, and MySQL's until 8.
pub(super) const NATIVE: &str = "mysql_native_password";
/// MySQL's since 8.
pub(super) const SHA2: &str = "caching_sha2_password";
