//! Export and import of a backend's state, from process to process.

use super::ejection::{Ejection, Out};
use super::{BackendState, EjectedFor, Health, Mark, Marked, Rising};
use crate::manifest;

impl BackendState {
    /// As the next process is told.
    pub fn export(&self) -> manifest::BackendState {
        let word = match self.health {
            Health::Unchecked => "unchecked",
            Health::Untested { added: false } => "untested",
            Health::Untested { added: true } => "added",
            Health::Up => "up",
            Health::Down => "down",
        };
        let marked = self.marked.as_ref();
        manifest::BackendState {
            health: word.to_owned(),
            cause: self.cause.as_deref().map(str::to_owned),
            since_ms: self.since_ms,
            ejection: manifest::Ejection {
                out: self.ejection.out.map(|out| (out.began_ms, out.until_ms)),
                in_a_row: self.ejection.in_a_row,
                ended_ms: self.ejection.ended_ms,
                quiet_since_ms: self.ejection.quiet_since_ms,
                cause: self.ejection.cause.word().into(),
            },
            rising: self.rising.map(|rising| (rising.since_ms, rising.tenths)),
            marked: marked.map(|m| (m.mark.word().to_owned(), (m.by.to_string(), m.since_ms))),
            weight: self.weight,
        }
    }

    /// As the process before told. `None`: in words that are not known here.
    pub fn import(record: &manifest::BackendState) -> Option<Self> {
        let health = match &*record.health {
            "unchecked" => Health::Unchecked,
            "untested" => Health::Untested { added: false },
            "added" => Health::Untested { added: true },
            "up" => Health::Up,
            "down" => Health::Down,
            _ => return None,
        };
        let marked = match &record.marked {
            None => None,
            Some((word, (by, since_ms))) => {
                let mark = [Mark::Drain, Mark::Down].into_iter().find(|mark| mark.word() == word)?;
                Some(Marked { mark, by: by.as_str().into(), since_ms: *since_ms })
            }
        };
        let ejection = &record.ejection;
        Some(Self {
            health,
            cause: record.cause.as_deref().map(Into::into),
            since_ms: record.since_ms,
            ejection: Ejection {
                out: ejection.out.map(|(began_ms, until_ms)| Out { began_ms, until_ms }),
                in_a_row: ejection.in_a_row,
                ended_ms: ejection.ended_ms,
                quiet_since_ms: ejection.quiet_since_ms,
                cause: EjectedFor::of_word(ejection.cause.as_str()).unwrap_or_default(),
            },
            rising: record.rising.map(|(since_ms, tenths)| Rising { since_ms, tenths }),
            marked,
            weight: record.weight,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Rules;
    use super::*;

    #[test]
    fn whatever_befell_it_comes_back_and_goes_on() {
        const RULES: Rules = Rules { eject_ms: Some(10_000), slow_start_ms: Some(9_000) };
        let mut state = BackendState::new(Health::Untested { added: true }, 3);
        let there = |state: &BackendState| BackendState::import(&state.export()).as_ref() == Some(state);
        assert!(there(&state));
        state.on_verdict(Err("connect refused, 3 of 3 checks"), &RULES, 7);
        assert!(there(&state));
        state.on_verdict(Ok(()), &RULES, 9);
        state.set_weight(Some(5));
        assert!(there(&state), "its weight grows");
        state.eject(EjectedFor::Empty, &RULES, 11);
        state.mark(Some(Marked { mark: Mark::Drain, by: "root".into(), since_ms: 12 }), &RULES, 12);
        assert!(there(&state));
        state.on_time(Some(12), &RULES, 10_011);
        assert!(there(&state), "ejections in a row are remembered");
        assert_eq!(
            BackendState::import(&manifest::BackendState { health: "well".into(), ..state.export() }),
            None
        );
    }
}
