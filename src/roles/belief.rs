//! Belief: which of those that say they are the primary is believed to be it, and what the others are (split-brain resolution).
//!
//! A function of what each server said last and of what is remembered. In this order:
//!
//! - another cluster's: believed by nobody, unless more than half of the pool belongs to it;
//! - below the highest generation ever believed, below another's that claims now, or no longer the one that is named by those
//!   who decide: a stale primary, even if it is alone;
//! - many that take writes together, as their protocol has it: one of them, which stays while it is one, or all;
//! - more than one left: one that is silent since it said so loses to one that began to say so later and speaks;
//! - still more than one: contested. Balancers with different memories agree on nobody, and on nothing else;
//! - where the file asks for it, nobody is believed while half of the pool is silent.

use std::collections::HashMap;

use super::answer::{Claim, Generation};
use super::memory::Memory;
use super::rules::{Contested, Rules, Writers};

/// What decides of one server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Voice<'a> {
    /// What it said last; `None`: nothing that counts.
    pub claim: Option<Claim>,
    /// Since which promotion.
    pub generation: Option<&'a Generation>,
    /// The last question got no answer.
    pub is_silent: bool,
    /// When it began to claim what it claims: larger is later.
    pub claimed: u64,
    /// It was asked, and is not given up.
    pub is_there: bool,
    /// Nothing came of asking it yet.
    pub is_unheard: bool,
}

/// What becomes of one that says it is the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    /// It makes no such claim.
    NoPrimary,
    /// It is believed.
    Believed,
    /// A later promotion is known, of this number.
    Stale(u64),
    /// It is of another cluster than the pool.
    Foreign,
    /// Others say the same, and none is provably the later.
    Contested,
    /// It takes writes as well as the one that is believed.
    Spare,
    /// Too few of the pool answer.
    Alone,
}

impl Judged {
    /// What it says of its generation is so.
    pub(super) fn is_of_the_pool(self) -> bool {
        matches!(self, Self::Believed | Self::Contested | Self::Spare | Self::Alone)
    }
}

/// Judges all of them. `before` is the one believed until now.
pub(super) fn judge(
    voices: &[Voice<'_>],
    memory: &Memory,
    before: Option<usize>,
    rules: &Rules,
) -> Vec<Judged> {
    let mut judged: Vec<Judged> = voices
        .iter()
        .map(|voice| match voice.claim {
            Some(Claim::Primary | Claim::Writer) => Judged::Contested,
            Some(Claim::Former) => Judged::Stale(voice.generation.map_or(0, |generation| generation.number)),
            Some(Claim::Replica) | None => Judged::NoPrimary,
        })
        .collect();
    let open = |judged: &[Judged]| -> Vec<usize> {
        (0..judged.len()).filter(|at| judged[*at] == Judged::Contested).collect()
    };

    let own = lineage(voices, memory);
    for at in open(&judged) {
        if let (Some(generation), Some(own)) = (voices[at].generation, own)
            && *generation.lineage != *own
        {
            judged[at] = Judged::Foreign;
        }
    }
    // Those left that tell a generation are of one cluster, or nobody knows which cluster the pool is: then it is contested.
    let mut highest: HashMap<&str, u64> = HashMap::new();
    for generation in open(&judged).into_iter().filter_map(|at| voices[at].generation) {
        let remembered = memory.highest(&generation.lineage).unwrap_or(0);
        let known = highest.entry(&*generation.lineage).or_insert(remembered);
        *known = generation.number.max(*known);
    }
    for at in open(&judged) {
        let Some(generation) = voices[at].generation else { continue };
        match highest.get(&*generation.lineage) {
            Some(&known) if generation.number < known => judged[at] = Judged::Stale(known),
            _ => {}
        }
    }
    let mut best = open(&judged);
    if !best.is_empty() && best.iter().all(|at| voices[*at].claim == Some(Claim::Writer)) {
        for at in writers(&best, voices, before, rules.writers) {
            judged[at] = Judged::Believed;
        }
        for at in open(&judged) {
            judged[at] = Judged::Spare;
        }
        return with_majority(judged, voices, rules);
    }
    // Who fell silent and is followed by somebody that speaks has lost, whatever it says later.
    let spoken = best.iter().filter(|at| !voices[**at].is_silent).map(|at| voices[*at].claimed).max();
    best.retain(|at| !voices[*at].is_silent || spoken.is_none_or(|spoken| voices[*at].claimed >= spoken));
    if best.len() > 1 && rules.contested == Contested::Keep {
        best.retain(|at| before == Some(*at));
    }
    if let [believed] = best[..] {
        judged[believed] = Judged::Believed;
    }
    with_majority(judged, voices, rules)
}

/// Where the file asks for it, nobody is believed while half of the pool is silent.
fn with_majority(mut judged: Vec<Judged>, voices: &[Voice<'_>], rules: &Rules) -> Vec<Judged> {
    let answering = voices.iter().filter(|voice| voice.is_there).count();
    if rules.majority && answering * 2 <= voices.len() {
        judged.iter_mut().filter(|one| **one == Judged::Believed).for_each(|one| *one = Judged::Alone);
    }
    judged
}

/// Who of those that take writes together gets them. One that is silent stays until it is given up, and nobody returns to a
/// better place while another is well: each move breaks what is under way.
fn writers(best: &[usize], voices: &[Voice<'_>], before: Option<usize>, writers: Writers) -> Vec<usize> {
    if writers == Writers::All {
        return best.to_vec();
    }
    let stays = before.filter(|before| best.contains(before));
    let speaks = best.iter().copied().find(|at| !voices[*at].is_silent);
    let next = speaks.or(best.first().copied());
    // Who happens to answer first is another one on each balancer: those that stand before it are heard first.
    let is_first = |at: &usize| !voices[..*at].iter().any(|voice| voice.is_unheard);
    stays.or(next.filter(is_first)).into_iter().collect()
}

/// Which cluster the pool is; `None`: nobody tells, or as many tell one as another.
fn lineage<'a>(voices: &[Voice<'a>], memory: &'a Memory) -> Option<&'a str> {
    let mut told: HashMap<&'a str, usize> = HashMap::new();
    for generation in voices.iter().filter_map(|voice| voice.generation) {
        *told.entry(&*generation.lineage).or_default() += 1;
    }
    let most = told.values().copied().max()?;
    let mut first = told.iter().filter(|(_, count)| **count == most).map(|(lineage, _)| *lineage);
    let (leading, tie) = (first.next()?, first.next().is_some());
    match memory.lineage() {
        Some(_) if most * 2 > voices.len() => Some(leading),
        Some(remembered) => Some(&**remembered),
        None if tie => None,
        None => Some(leading),
    }
}
