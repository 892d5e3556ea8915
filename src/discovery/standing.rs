//! How a source stands: its word, since when and why, when it answered last, and how long it is left alone after a failure.
//!
//! Pure.

/// How a source stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// It answers.
    Ok,
    /// It says that there is nobody.
    Nobody,
    /// What a process before heard; this one has heard nothing yet.
    Remembered,
    /// It never answered.
    Waiting,
    /// Its answer takes away much, and is asked for again.
    Held,
    /// It does not answer.
    Failing,
}

impl Standing {
    /// Its word for people and scripts.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Nobody => "nobody",
            Self::Remembered => "remembered",
            Self::Waiting => "waiting",
            Self::Held => "held",
            Self::Failing => "failing",
        }
    }
}

/// How one of them came to stand as it does.
#[derive(Debug, Clone)]
pub(super) struct Stands {
    standing: Standing,
    since_ms: u64,
    why: Option<String>,
    answered_ms: Option<u64>,
    failures: u32,
}

impl Stands {
    /// One that has heard nothing.
    pub(super) fn new(now_ms: u64) -> Self {
        Self { standing: Standing::Waiting, since_ms: now_ms, why: None, answered_ms: None, failures: 0 }
    }

    /// It knows what a process before had heard.
    pub(super) fn remember(&mut self, answered_ms: Option<u64>, why: Option<String>) {
        (self.standing, self.why) = (Standing::Remembered, why);
        (self.answered_ms, self.since_ms) = (answered_ms, answered_ms.unwrap_or(self.since_ms));
    }

    /// It stands so from now on, if it did not before.
    pub(super) fn stand(&mut self, standing: Standing, why: Option<String>, now_ms: u64) {
        if self.standing != standing {
            (self.standing, self.since_ms) = (standing, now_ms);
        }
        self.why = why;
    }

    /// There was an answer.
    pub(super) fn note_answer(&mut self, now_ms: u64) {
        self.failures = 0;
        self.answered_ms = Some(now_ms);
    }

    /// There was none; tells for how long it is left alone.
    pub(super) fn fail(&mut self, why: String, now_ms: u64, random: u64) -> u64 {
        self.failures = self.failures.saturating_add(1);
        self.stand(Standing::Failing, Some(why), now_ms);
        let pause_ms = RETRY_MS << (self.failures - 1).min(RETRY_DOUBLINGS);
        jittered(pause_ms.min(RETRY_MAX_MS), random)
    }

    /// It has failed for as long as what it had found is kept.
    pub(super) fn gives_up(&self, keep_for_ms: Option<u64>, now_ms: u64) -> bool {
        let is_over = |keep_for_ms: u64| now_ms >= self.since_ms.saturating_add(keep_for_ms);
        self.standing == Standing::Failing && keep_for_ms.is_some_and(is_over)
    }

    /// How it stands, since when, and why.
    pub(super) fn get(&self) -> (Standing, u64, Option<&str>) {
        (self.standing, self.since_ms, self.why.as_deref())
    }

    /// When it answered last.
    pub(super) fn answered_ms(&self) -> Option<u64> {
        self.answered_ms
    }

    /// An answer or a failure has come.
    pub(super) fn is_heard(&self) -> bool {
        !matches!(self.standing, Standing::Waiting | Standing::Remembered)
    }
}

/// Up to a tenth later, so that many sources are not asked at once.
pub(super) fn jittered(ms: u64, random: u64) -> u64 {
    ms + random % (ms / 10 + 1)
}

const RETRY_MS: u64 = 1_000;
const RETRY_MAX_MS: u64 = 30_000;
const RETRY_DOUBLINGS: u32 = 5;
