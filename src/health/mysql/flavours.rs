//! Flavours of MySQL: alone or in a replication, a member of a group (group replication), or a Galera node. What each is asked, and
//! what its answers make of it.
//!
//! Pure. Writing is allowed by `read_only`, not by whether replication runs: a primary keeps the settings of the replica it was.

use std::collections::HashMap;

use crate::config::settings::Donors;
use crate::health::outcome::{Cause, Excerpt};
use crate::roles::{Answer, Claim, Generation};

/// What kind of server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    /// MariaDB on its own, or with replicas.
    MariaDb,
    /// MySQL likewise.
    MySql,
    /// A member of a group.
    Group,
    /// MariaDB's Galera Cluster, or Percona XtraDB Cluster.
    Galera,
}

impl Flavour {
    /// What more this one is asked.
    pub(super) fn question(self) -> &'static str {
        match self {
            Self::MariaDb | Self::MySql => "SELECT LEFT(@@global.gtid_executed, 16384)",
            Self::Group => {
                "SELECT m.member_id = @@server_uuid, m.member_state, m.member_role, s.view_id, \
                 IF(m.member_id = @@server_uuid, LEFT(@@global.gtid_executed, 16384), '') \
                 FROM performance_schema.replication_group_members m \
                 LEFT JOIN performance_schema.replication_group_member_stats s USING (member_id)"
            }
            Self::Galera => {
                "SHOW GLOBAL STATUS WHERE variable_name IN ('wsrep_ready', 'wsrep_connected', 'wsrep_local_state', \
                 'wsrep_local_state_comment', 'wsrep_cluster_status', 'wsrep_last_committed')"
            }
        }
    }
}

/// What any of them is asked first. Names that a server does not have are left out of its answer.
pub(super) const VARIABLES: &str = "SHOW GLOBAL VARIABLES WHERE variable_name IN ('read_only', 'super_read_only', 'offline_mode', \
     'innodb_read_only', 'gtid_current_pos', 'gtid_mode', 'group_replication_group_name', 'wsrep_on', 'wsrep_provider', \
     'wsrep_reject_queries', 'pxc_maint_mode')";

/// Variables of a server by their names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Variables(HashMap<String, String>);

impl Variables {
    pub(super) fn of(rows: &[Vec<String>]) -> Self {
        let pair = |row: &Vec<String>| match &row[..] {
            [name, value] => Some((name.to_ascii_lowercase(), value.clone())),
            _ => None,
        };
        Self(rows.iter().filter_map(pair).collect())
    }

    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |value| value)
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.get(name).eq_ignore_ascii_case(value)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.get(name).parse().ok()
    }

    /// MariaDB 12 has more words for it than ON.
    fn is_read_only(&self) -> bool {
        ["read_only", "super_read_only", "innodb_read_only"]
            .iter()
            .any(|name| !["", "OFF", "0"].contains(&&*self.get(name).to_ascii_uppercase()))
    }

    pub(super) fn flavour(&self) -> Flavour {
        let has_provider = !["", "none"].contains(&&*self.get("wsrep_provider").to_ascii_lowercase());
        if has_provider && !self.is("wsrep_on", "OFF") {
            Flavour::Galera
        } else if !self.get("group_replication_group_name").is_empty() {
            Flavour::Group
        } else if self.0.contains_key("gtid_current_pos") || !self.0.contains_key("gtid_mode") {
            Flavour::MariaDb
        } else {
            Flavour::MySql
        }
    }
}

/// One that is not in a cluster of a kind that decides by itself.
pub(super) fn alone(variables: &Variables, executed: Option<&Vec<String>>) -> Result<Answer, Cause> {
    if variables.is("offline_mode", "ON") {
        return Err(unready("offline_mode is on"));
    }
    let executed = executed.and_then(|row| row.first()).map(|set| count(set));
    let position = executed.unwrap_or_else(|| reached(variables.get("gtid_current_pos")));
    let claim = if variables.is_read_only() { Claim::Replica } else { Claim::Primary };
    Ok(Answer { claim, generation: None, position })
}

/// A member of a group, by its rows of all members.
pub(super) fn group(variables: &Variables, rows: &[Vec<String>]) -> Result<Answer, Cause> {
    let online = rows.iter().filter(|row| row.get(1).is_some_and(|state| state == "ONLINE")).count();
    let Some([_, state, role, view, executed]) = rows.iter().find(|row| row[0] == "1").map(|row| &row[..])
    else {
        return Err(unready("it is not in its group"));
    };
    if state != "ONLINE" {
        return Err(unready(&format!("its state in the group is {state}")));
    }
    if online * 2 <= rows.len() {
        let why = format!("its group has lost its majority: {online} of {} members are ONLINE", rows.len());
        return Err(unready(&why));
    }
    if variables.is("offline_mode", "ON") {
        return Err(unready("offline_mode is on"));
    }
    // `17643021:6`: the group since it was begun, and how often its members changed.
    let view = view.split_once(':');
    let generation = view
        .and_then(|(group, number)| Some(Generation { lineage: group.into(), number: number.parse().ok()? }));
    let primaries = rows.iter().filter(|row| row.get(2).is_some_and(|role| role == "PRIMARY")).count();
    let claim = match &**role {
        // One that was chosen stays read-only until it has what the one before left.
        "PRIMARY" if variables.is_read_only() => Claim::Replica,
        "PRIMARY" if primaries > 1 => Claim::Writer,
        "PRIMARY" => Claim::Primary,
        _ => Claim::Replica,
    };
    // Of many, each learns of a change of the members at another moment: who is a step behind is none of yesterday.
    let generation = generation.filter(|_| claim != Claim::Writer);
    Ok(Answer { claim, generation, position: count(executed) })
}

/// A Galera node, by its variables and its state.
pub(super) fn galera(variables: &Variables, status: &Variables, donors: Donors) -> Result<Answer, Cause> {
    let state = status.get("wsrep_local_state");
    let comment = status.get("wsrep_local_state_comment");
    if !status.is("wsrep_cluster_status", "Primary") {
        return Err(unready(&format!("its cluster is {}", status.get("wsrep_cluster_status"))));
    }
    if !status.is("wsrep_ready", "ON") || status.is("wsrep_connected", "OFF") {
        return Err(unready(&format!("it is not ready ({comment})")));
    }
    match state {
        SYNCED => {}
        DONOR if donors == Donors::In => {}
        _ => return Err(unready(&format!("it is not synced ({comment})"))),
    }
    if !["", "NONE"].contains(&&*variables.get("wsrep_reject_queries").to_ascii_uppercase()) {
        return Err(unready(&format!("wsrep_reject_queries is {}", variables.get("wsrep_reject_queries"))));
    }
    if !["", "DISABLED"].contains(&variables.get("pxc_maint_mode")) {
        return Err(unready(&format!("pxc_maint_mode is {}", variables.get("pxc_maint_mode"))));
    }
    let claim = if variables.is_read_only() { Claim::Replica } else { Claim::Writer };
    Ok(Answer { claim, generation: None, position: status.number("wsrep_last_committed") })
}

fn unready(why: &str) -> Cause {
    Cause::Unready { excerpt: Excerpt::text(why) }
}

/// How many transactions are in `uuid:1-5:7,\nuuid:tag:1-3`; `None`: it is not told as a whole, or there are none.
fn count(set: &str) -> Option<u64> {
    if set.is_empty() || set.len() >= SET_BYTES_MAX {
        return None;
    }
    let mut all: u64 = 0;
    for part in set.split(',').flat_map(|source| source.trim().split(':').skip(1)) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        // Tags stand between the intervals.
        let (Ok(first), Ok(last)) = (first.trim().parse::<u64>(), last.trim().parse::<u64>()) else {
            continue;
        };
        all = all.saturating_add(last.saturating_sub(first).saturating_add(1));
    }
    Some(all)
}

/// How many transactions are before `0-1-9,1-2-7`: the last number of each domain.
fn reached(position: &str) -> Option<u64> {
    let number = |domain: &str| domain.rsplit('-').next()?.trim().parse::<u64>().ok();
    position.split(',').map(number).try_fold(0_u64, |all, number| Some(all.saturating_add(number?)))
}

const SYNCED: &str = "4";
const DONOR: &str = "2";
/// What is asked for.
const SET_BYTES_MAX: usize = 16_384;
