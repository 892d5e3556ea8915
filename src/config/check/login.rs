//! Checks that log in: who, with what password, and over what TLS.
//!
//! Pure: a password that stands elsewhere is read by what the report brings along. Must stay true: no message holds a password,
//! and the line of one that stands in the file is blank wherever it is shown.

use std::sync::Arc;

use super::section::Fields;
use super::values::{found_word, scalar, tell_not, word};
use crate::config::document::{Entry, Value};
use crate::config::mistake::{Report, quoted};
use crate::config::settings::{Check, Pem, PostgresCheck, Secret, SecretSource, Tls, TlsTerms, Verify};
use crate::config::spec::{POSTGRES, SECRET, Section, TLS};

/// A `postgres` check.
pub(super) fn postgres(choice: &Entry, report: &mut Report) -> Option<Check> {
    let fields = Fields::open(&choice.value, &POSTGRES, report)?;
    // All are read before one is given up, so that all are told.
    let password = password(&fields, "password", report);
    let user = login(&fields, "user", report);
    let database = login(&fields, "database", report);
    let tls = tls(&fields, report);
    if fields.get("user").is_none() {
        report.tell(choice.place, "`postgres` needs `user`: the role that the check logs in as");
    }
    if let Some(entry) = fields.get("database").filter(|_| database.as_deref() == Some("template1")) {
        report.tell_with_hint(
            entry.value.place,
            "`database` cannot be `template1`: while somebody is there, nobody can create a database",
            "`postgres` is there for this",
        );
    }
    Some(Check::Postgres(PostgresCheck { user: user?, password: password?, database: database?, tls: tls? }))
}

/// A name for a login.
pub(super) fn login(fields: &Fields<'_>, key: &str, report: &mut Report) -> Option<String> {
    let kind = fields.kind(key);
    fields.read(key, report, |entry, report| {
        let text = scalar(key, &entry.value, kind.expected(), report)?;
        let fits = !text.is_empty() && text.len() <= kind.most() && !text.contains('\0');
        if !fits {
            tell_not(&kind, entry, text, report);
        }
        fits.then(|| text.to_owned())
    })
}

/// The password of a check that stands behind this key.
pub(super) fn password(fields: &Fields<'_>, key: &str, report: &mut Report) -> Option<Secret> {
    let kind = fields.kind(key);
    let Some(entry) = fields.get(key) else { return Some(Secret::none()) };
    let source = match &entry.value.value {
        Value::Text(text) => {
            report.hide(entry.value.place);
            let variable = report.only_variable(entry.value.place, text).map(Into::into);
            if text.len() > kind.most() || text.contains(['\0', '\n', '\r']) {
                let most = kind.most();
                report.tell(entry.value.place, format!("`{key}` is a line of at most {most} bytes"));
                return None;
            }
            return Some(if text.is_empty() {
                Secret::none()
            } else {
                Secret::new(variable.map_or(SecretSource::Here, SecretSource::Variable), text.as_bytes())
            });
        }
        Value::Map(_) => source(entry, report)?,
        _ => {
            report.tell(entry.value.place, format!("`{key}` must be {}", kind.expected()));
            return None;
        }
    };
    match report.secret(&source) {
        Ok(text) => {
            let secret = Secret::new(source, &text);
            let most = kind.most();
            let problem = if secret.is_none() {
                "is empty".to_owned()
            } else if secret.expose().len() > most {
                format!("has more than {most} bytes in its first line")
            } else if secret.expose().contains(&0) {
                "holds a zero byte".to_owned()
            } else {
                return Some(secret);
            };
            report.tell(entry.value.place, format!("`{key}`: what is read there {problem}"));
        }
        Err(why) => report.tell(entry.value.place, format!("`{key}` cannot be read: {why}")),
    }
    // Told already: the check is what it is all the same, so nothing else is wrong with it. Nobody is asked by such a file.
    Some(Secret::new(SecretSource::Nowhere, b"(unread)"))
}

fn source(entry: &Entry, report: &mut Report) -> Option<SecretSource> {
    let fields = Fields::open(&entry.value, &SECRET, report)?;
    let [choice] = fields.entries() else {
        report.tell(entry.value.place, "`password` is one thing: `{ file: PATH }` or `{ credential: NAME }`");
        return None;
    };
    let kind = fields.kind(&choice.key);
    let text = scalar(&choice.key, &choice.value, kind.expected(), report)?;
    if text.len() > kind.most() {
        report.tell(choice.value.place, format!("`{}` has at most {} bytes", choice.key, kind.most()));
        return None;
    }
    match &*choice.key {
        "file" if text.starts_with('/') => Some(SecretSource::File(text.into())),
        "file" => {
            report.tell(
                choice.value.place,
                format!("`file` must be a path from the root, not {}", quoted(text)),
            );
            None
        }
        "credential" if !text.is_empty() && !text.contains('/') && !text.starts_with('.') => {
            Some(SecretSource::Credential(text.into()))
        }
        "credential" => {
            report.tell(choice.value.place, "`credential` is the name of one, without a path");
            None
        }
        // An unknown key was told.
        _ => None,
    }
}

/// The `tls` of a check.
pub(super) fn tls(fields: &Fields<'_>, report: &mut Report) -> Option<Tls> {
    let kind = fields.kind("tls");
    let anybody = || Tls::On(Arc::new(TlsTerms::ANYBODY));
    fields.read("tls", report, |entry, report| {
        match found_word(&kind, entry) {
            Some("off") => return Some(Tls::Off),
            Some("try") => return Some(Tls::Try),
            Some(_) => return Some(anybody()),
            None => {}
        }
        if let Value::Text(text) = &entry.value.value {
            tell_not(&kind, entry, text, report);
            return None;
        }
        terms(entry, &TLS, report).map(|terms| Tls::On(Arc::new(terms)))
    })
}

/// Whom to believe, as a map says it.
pub(super) fn terms(entry: &Entry, section: &'static Section, report: &mut Report) -> Option<TlsTerms> {
    let fields = Fields::open(&entry.value, section, report)?;
    let kind = fields.kind("verify");
    let verify = fields.read("verify", report, |entry, report| word(&kind, entry, report));
    let verify = verify.and_then(Verify::named)?;
    let text = |key: &str, report: &mut Report| -> Option<Box<str>> {
        let (entry, kind) = (fields.get(key)?, fields.kind(key));
        let text = scalar(key, &entry.value, kind.expected(), report)?;
        if text.is_empty() || text.len() > kind.most() {
            report.tell(entry.value.place, format!("`{key}` has 1 to {} bytes", kind.most()));
        }
        Some(text.into())
    };
    let ca = text("ca", report).filter(|ca| **ca != *"system");
    let (name, certificate, key) = (text("name", report), text("certificate", report), text("key", report));
    for (what, path) in [("ca", &ca), ("certificate", &certificate), ("key", &key)] {
        if let (Some(path), Some(entry)) = (path, fields.get(what))
            && !path.starts_with('/')
        {
            let message = format!("`{what}` must be a path from the root, not {}", quoted(path));
            report.tell(entry.value.place, message);
        }
    }
    if certificate.is_some() != key.is_some() {
        report.tell(entry.place, "`certificate` and `key` go together");
    }
    if let (Some(entry), Some(_), Verify::Off) = (fields.get("ca"), &ca, verify) {
        report.tell(entry.place, "`ca` is looked at by nobody with `verify: off`");
    }
    let own = certificate.map(Pem::File).zip(key.map(Pem::File));
    Some(TlsTerms { verify, ca: ca.map(Pem::File), name, own })
}
