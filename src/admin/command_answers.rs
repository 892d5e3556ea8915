//! Answers of the admin commands: how it went and what to say, in JSON; what is wrong with a request.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::query::Query;
use super::requests::{Kind, Refused};

/// An answer: how it went, and what to say.
pub(super) type Answer = (StatusCode, Value);

/// `POOL/BACKEND`; neither name has a slash.
pub(super) fn pool_and_name(text: &str) -> Result<(String, String), Answer> {
    let parts = text.split_once('/').ok_or_else(|| bad(&format!("`{text}` is no POOL/BACKEND")))?;
    Ok((parts.0.to_owned(), parts.1.to_owned()))
}

pub(super) fn needed<'a>(query: &'a Query, name: &str) -> Result<&'a str, Answer> {
    query.needed(name).map_err(|why| bad(&why))
}

pub(super) fn refusal(refused: &Refused) -> Answer {
    let code = match refused.kind {
        Kind::BadFile => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::NoSuch => StatusCode::NOT_FOUND,
        Kind::NotPossible => StatusCode::BAD_REQUEST,
        Kind::NotNow => StatusCode::SERVICE_UNAVAILABLE,
    };
    wrong(code, &refused.text)
}

pub(super) fn bad(text: &str) -> Answer {
    wrong(StatusCode::BAD_REQUEST, text)
}

pub(super) fn stopping() -> Answer {
    wrong(StatusCode::SERVICE_UNAVAILABLE, "the program is stopping")
}

pub(super) fn wrong(code: StatusCode, text: &str) -> Answer {
    (code, json!({ "error": text }))
}
