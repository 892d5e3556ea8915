//! Keys of a pool and of a backend; those of its health checks are in `checks`.
//!
//! Pure. Tables of rows. Those that each pool has of its own come first: `defaults` has the others.

use super::checks::HEALTH;
use super::discovery::{DISCOVERY, FROM};
use super::{
    Default, Key, Kind, NAME, OFF, Section, Text, hours, minutes, ms, seconds, spelt, spelt_between,
};
use crate::config::settings::{
    Addresses, Balance, Contested, Family, HashKey, Ignored, Leave, OnDown, OnRemoved,
    SOURCE_HASH as HASH_WORD, SendProxy, WhenNone, Word, Writers,
};

pub(in crate::config) const POOL: Section = Section::new("a pool", &KEYS);

pub(in crate::config) const DEFAULTS_POOL: Section =
    Section::new("the `pool` of `defaults`", KEYS.split_at(1).1);

const KEYS: [Key; 18] = [
    Key::new(
        "backends",
        Kind::Backends(&BACKEND, 10_000),
        Default::Required,
        "ADDRESS or ADDRESS:PORT of each, a host name or NAME:PORT, or a map; without a port, the one the client came to",
    ),
    Key::new(
        "balance",
        Kind::Choice(&BALANCES, &BALANCE),
        Default::Is("round_robin"),
        "how a backend is chosen: in turns, by the fewest sessions or owed answers, by chance, by latency, by order, by the client",
    ),
    Key::new("max_sessions", SESSIONS, Default::Is("off"), "sessions of the whole pool at once"),
    Key::new(
        "sticky",
        Kind::SectionOr(&STICKY, OFF),
        Default::Is("off"),
        "a source (an IPv4 address, an IPv6 /64) returns to its backend while that is eligible and not full",
    ),
    Key::new("connect", Kind::Section(&CONNECT), Default::Parts, "how a backend is dialled").tcp(),
    Key::new(
        "connect_from",
        // Each of them has a table of ports towards each backend.
        Kind::List(
            Text {
                words: &["client"],
                ..Text::new("an address of this host without a port, a list of them, or `client`")
            },
            64,
        ),
        Default::Is("[]"),
        "addresses of this host, used in turn; client: the client's own address and port (needs CAP_NET_ADMIN)",
    ),
    Key::new(
        "send_proxy",
        Kind::Words(&SEND_PROXY),
        Default::Is("off"),
        "a PROXY header tells the backend who the client is; udp: v2 alone, in front of the first datagram of a flow",
    ),
    Key::new("health", Kind::Section(&HEALTH), Default::Parts, "how backends are asked for their health"),
    Key::new(
        "passive",
        Kind::SectionOr(&PASSIVE, OFF),
        Default::Is("{}"),
        "real traffic counts too: a backend that fails it is ejected for a while",
    ),
    Key::new(
        "slow_start",
        Kind::Duration(seconds(1), hours(1), OFF),
        Default::Is("off"),
        "the weight of a backend that came back grows from a tenth to the whole for this long",
    ),
    Key::new(
        "on_down",
        Kind::Words(&ON_DOWN),
        Default::Is("auto"),
        "what happens to the sessions of a backend that goes down; auto: keep for tcp, rehome (flows only) for udp",
    ),
    Key::new(
        "discovery",
        Kind::Section(&DISCOVERY),
        Default::Parts,
        "how the addresses of host names among the backends are taken",
    ),
    Key::new(
        "on_removed",
        Kind::Words(&ON_REMOVED),
        Default::Is("auto"),
        "what happens to the sessions of a backend that leaves the list; auto: keep for tcp, rehome (flows only) for udp",
    ),
    Key::new(
        "removed_grace",
        Kind::Duration(seconds(1), hours(24), OFF),
        Default::Is("off"),
        "sessions that are still at a backend so long after it left the list end, spread over a second",
    ),
    Key::new(
        "when_none",
        Kind::Words(&WHEN_NONE),
        Default::Is("reject"),
        "no backend is eligible: a reset for the client, try every one that no operator took out, or wait in the queue",
    ),
    Key::new(
        "refusal_text",
        Kind::Text(Text::new("a text of 1 to 1000 characters").at_most(1_000)),
        Default::Told("why, in a few words"),
        "what players read who are refused, where a listener speaks minecraft",
    )
    .tcp(),
    Key::new(
        "queue",
        Kind::SectionOr(&QUEUE, OFF),
        Default::Is("off"),
        "sessions wait when every eligible backend is full; needs a max_sessions",
    )
    .tcp(),
    Key::new(
        "roles",
        Kind::Section(&ROLES),
        Default::Parts,
        "who is believed to be the primary; needs a check that tells roles",
    )
    .tcp(),
];

pub(in crate::config) const BACKEND: Section = Section::new(
    "a backend",
    &[
        Key::new(
            "address",
            Kind::Text(Text::new("ADDRESS or ADDRESS:PORT, or a host name instead of the address")),
            Default::Absent,
            "where it is dialled; without a port, at the one the client came to; a host name is looked up",
        ),
        Key::new(
            "name",
            Kind::Text(NAME),
            Default::Told("the address as written"),
            "what commands, logs and metrics call it; unique in the pool",
        ),
        Key::new(
            "weight",
            Kind::Whole(0, 256, &[]),
            Default::Is("1"),
            "its share of what is new; 0 drains: nothing new, what is there stays",
        ),
        Key::new(
            "tier",
            Kind::Whole(0, 255, &[]),
            Default::Is("0"),
            "a higher one serves only while no lower one has an eligible backend",
        ),
        Key::new("max_sessions", SESSIONS, Default::Is("off"), "its sessions at once, never exceeded"),
        Key::new(
            "addresses",
            Kind::Words(&ADDRESSES),
            Default::Is("all"),
            "of a host name: each of its addresses is a backend, or the name is one, which may move",
        ),
        Key::new(
            "family",
            Kind::Words(&FAMILIES),
            Default::Is("any"),
            "of a host name: which addresses it is asked for",
        ),
        Key::new(
            "from",
            Kind::Section(&FROM),
            Default::Absent,
            "instead of `address`: who says which backends there are",
        ),
        Key::new(
            "ignore",
            Kind::List(
                Text { words: &IGNORED, ..Text::new("a list of `weight`, `tier`, `max_sessions`, `port`") },
                4,
            ),
            Default::Is("[]"),
            "with `from`: what is not taken from there, but from this entry; without its port, at the one the client came to",
        ),
    ],
)
.with_one_of(&["address", "from"]);

pub(in crate::config) const BALANCE: Section = Section::choice(
    "`balance`",
    &[Key::new(
        HASH_WORD,
        Kind::Section(&SOURCE_HASH),
        Default::Absent,
        "the same client to the same backend",
    )],
);

pub(in crate::config) const SOURCE_HASH: Section = Section::new(
    "`source_hash`",
    &[
        Key::new("key", Kind::Words(&HASH_KEYS), Default::Is("source_ip"), "what of the client is hashed"),
        Key::new(
            "bounded_load",
            Kind::Factor(1, 100, OFF),
            Default::Is("off"),
            "pass over a backend above this many times its fair share of sessions",
        ),
        Key::new(
            "mask_v4",
            Kind::Whole(0, 32, &[]),
            Default::Is("32"),
            "leading bits of an IPv4 address that count",
        ),
        Key::new(
            "mask_v6",
            Kind::Whole(0, 128, &[]),
            Default::Is("64"),
            "leading bits of an IPv6 address that count",
        ),
    ],
);

const STICKY: Section = Section::new(
    "`sticky`",
    &[
        Key::new(
            "for",
            Kind::Duration(seconds(1), hours(720), &[]),
            Default::Is("30m"),
            "how long a source is remembered after its last session began",
        ),
        Key::new(
            "entries",
            Kind::Whole(1, 10_000_000, &[]),
            Default::Is("100000"),
            "sources that are remembered; the least recently used goes first",
        ),
    ],
);

const CONNECT: Section = Section::new(
    "`connect`",
    &[
        // The kernel itself gives a connect up after about 127 s.
        Key::new("timeout", Kind::Duration(ms(10), minutes(2), &[]), Default::Is("5s"), "for one attempt"),
        Key::new(
            "attempts",
            Kind::Whole(1, 16, &[]),
            Default::Is("3"),
            "for a session, each at another backend while there is one",
        ),
        Key::new(
            "replay_first",
            Kind::Words(&["on", "off"]),
            Default::Is("off"),
            "what the client said first, up to 16 KiB, is said again to another backend where one ended without a byte",
        ),
    ],
);

const PASSIVE: Section = Section::new(
    "`passive`",
    &[
        Key::new(
            "failures",
            Kind::Whole(1, 1_000_000, &[]),
            Default::Is("5"),
            "failed connects in a row (udp: ICMP refusals) until a backend is ejected; any success starts over",
        ),
        Key::new(
            "empty",
            Kind::Whole(1, 1_000_000, OFF),
            Default::Is("5"),
            "sessions in a row that a backend ended without a byte, where one was to be expected, until it is ejected; tcp",
        ),
        Key::new(
            "silent",
            Kind::Duration(ms(100), hours(1), OFF),
            Default::Is("off"),
            "a backend that owes answers for so long, and gives none to anybody meanwhile, is ejected",
        ),
        Key::new(
            "slow",
            Kind::Factor(1, 100, OFF),
            Default::Is("off"),
            "a backend that answers so many times more slowly than the median of its pool, for 20 turns, is ejected",
        ),
        Key::new(
            "eject",
            Kind::Duration(ms(100), hours(1), &[]),
            Default::Is("10s"),
            "how long the first ejection lasts; doubled at each one in a row, at most 5m",
        ),
        Key::new(
            "max_ejected",
            Kind::Percent(100),
            Default::Is("50%"),
            "of the pool at once, rounded down; never the last one that serves",
        ),
    ],
);

const QUEUE: Section = Section::new(
    "`queue`",
    &[
        Key::new("sessions", Kind::Whole(1, 1_000_000, &[]), Default::Is("1000"), "how many may wait"),
        Key::new(
            "timeout",
            Kind::Duration(ms(10), hours(1), &[]),
            Default::Is("5s"),
            "how long each may wait",
        ),
    ],
);

const ROLES: Section = Section::new(
    "`roles`",
    &[
        Key::new(
            "max_lag",
            Kind::Duration(ms(100), hours(24), OFF),
            Default::Is("off"),
            "a replica so far behind the primary gets nothing new until it is back below half of it",
        ),
        Key::new(
            "max_lag_bytes",
            Kind::Size(1 << 10, 1 << 30, OFF),
            Default::Is("off"),
            "the same in bytes of the stream of changes; whichever is reached first",
        ),
        Key::new(
            "contested",
            Kind::Words(&CONTESTED),
            Default::Is("refuse"),
            "two say they are the primary, and neither is provably the later: believe none, or the one believed before",
        ),
        Key::new(
            "majority",
            Kind::Words(&["on", "off"]),
            Default::Is("off"),
            "believe a primary only while more than half of the backends answer",
        ),
        Key::new(
            "writers",
            Kind::Words(&WRITERS),
            Default::Is("one"),
            "where many take writes at once (Galera, a group with many primaries): one of them, or all",
        ),
        Key::new(
            "leave",
            Kind::Words(&LEAVE),
            Default::Is("close"),
            "what happens to a session whose backend lost the role of its listener: a reset at once, or it stays",
        ),
    ],
);

const SESSIONS: Kind = Kind::Whole(1, u32::MAX as u64, OFF);
const BALANCES: [&str; 8] = spelt_between(&[], Balance::WORDS, &[HASH_WORD]);
const HASH_KEYS: [&str; 2] = spelt(HashKey::WORDS);
const SEND_PROXY: [&str; 3] = spelt(SendProxy::WORDS);
const ADDRESSES: [&str; 2] = spelt(Addresses::WORDS);
const FAMILIES: [&str; 3] = spelt(Family::WORDS);
const IGNORED: [&str; 4] = spelt(Ignored::WORDS);
const ON_REMOVED: [&str; 4] = spelt(OnRemoved::WORDS);
const ON_DOWN: [&str; 4] = spelt_between(&["auto"], OnDown::WORDS, &[]);
const CONTESTED: [&str; 2] = spelt(Contested::WORDS);
const WRITERS: [&str; 2] = spelt(Writers::WORDS);
const LEAVE: [&str; 2] = spelt(Leave::WORDS);
const WHEN_NONE: [&str; 3] = spelt(WhenNone::WORDS);
