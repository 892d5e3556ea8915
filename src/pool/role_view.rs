//! View of roles (read/write splitting): how the servers of a replicated pool stand at one moment, and who is picked for which
//! role.

use crate::balance::{Member, Picker};
use crate::config::settings::{Balance, Role};
use crate::roles::{Lag, Roles, Standing};

/// The roles of one pool at one moment.
#[derive(Debug)]
pub struct RoleView {
    /// How each stands, in the order of the file.
    pub roles: Roles,
    primary: Picker,
    replica: Picker,
    prefer_replica: Picker,
}

impl RoleView {
    /// Of members that say whether they may be picked at all. `previous` lends its turns.
    pub(super) fn new(
        roles: &Roles,
        balance: &Balance,
        hash_seed: &str,
        members: &[Member],
        previous: Option<&Self>,
    ) -> Self {
        let standings = roles.standings();
        let picker = |fits: fn(Standing) -> bool, previous: Option<&Picker>| {
            let fitting = members.iter().zip(standings).map(|(member, standing)| {
                let up = member.up && fits(*standing);
                Member { up, ..member.clone() }
            });
            Picker::build(balance, hash_seed, false, &fitting.collect::<Vec<_>>(), previous)
        };
        let primary = picker(Standing::is_primary, previous.map(|view| &view.primary));
        let replica = picker(Standing::is_replica, previous.map(|view| &view.replica));
        // As with tiers: the primary reads only while no replica may.
        let preferred =
            if replica.eligible().is_empty() { Standing::is_primary } else { Standing::is_replica };
        Self {
            roles: roles.clone(),
            prefer_replica: picker(preferred, previous.map(|view| &view.prefer_replica)),
            primary,
            replica,
        }
    }

    /// Who is picked for a role; `None` for those that do not care.
    pub(super) fn picker(&self, role: Role) -> Option<&Picker> {
        match role {
            Role::Any => None,
            Role::Primary => Some(&self.primary),
            Role::Replica => Some(&self.replica),
            Role::PreferReplica => Some(&self.prefer_replica),
        }
    }

    /// How the server at this place of the list stands.
    pub fn standing(&self, at: usize) -> Standing {
        self.roles.standings().get(at).copied().unwrap_or(Standing::Unknown)
    }

    /// It has the role that is asked for.
    pub(super) fn fits(&self, at: usize, role: Role) -> bool {
        let standing = self.standing(at);
        match role {
            Role::Any => standing.is_any(),
            Role::Primary => standing.is_primary(),
            Role::Replica => standing.is_replica(),
            Role::PreferReplica => standing.is_replica() || standing.is_primary(),
        }
    }

    /// What there is to say of the server at this place. `in_bytes`: what its check tells of how far it is.
    pub fn why(&self, at: usize, lag: Option<Lag>, in_bytes: bool) -> String {
        let own =
            self.roles.generation(at).map_or(String::new(), |own| format!(" of generation {}", own.number));
        let behind = lag.map_or(String::new(), |lag| {
            let bytes = if in_bytes { format!("{} bytes and ", lag.bytes) } else { String::new() };
            format!(", {bytes}{}.{} s behind", lag.ms / 1_000, lag.ms % 1_000 / 100)
        });
        match self.standing(at) {
            Standing::Unknown => "its role is not known: it has not told it yet, or is silent".to_owned(),
            Standing::Starting => "it starts, or stops".to_owned(),
            Standing::Primary => format!("the primary{own}"),
            Standing::Stale(known) => {
                format!("stale primary: it says it is the primary{own}, and generation {known} is known")
            }
            Standing::Foreign => "it says it is the primary, of another cluster than the pool's".to_owned(),
            Standing::Contested => format!("contested: it says it is the primary{own}, and so does another"),
            Standing::Alone => {
                "it says it is the primary, and half of the pool is silent (`majority: on`)".to_owned()
            }
            Standing::Replica => format!("a replica{behind}"),
            Standing::Lagging => format!("lagging: a replica{behind}"),
        }
    }
}
