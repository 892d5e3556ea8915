//! Listing: the text of a file or of a URL as backends. The forms are those of `config::read_listing`.
//!
//! Pure.

use super::watch::Listed;
use crate::config;

/// The backends that a text lists, which is called `name` in what is told of its mistakes, with line and column.
pub(super) fn read(name: &str, text: &[u8]) -> Result<Vec<Listed>, String> {
    let all = config::read_listing(name, text).map_err(|mistakes| mistakes.in_a_line())?;
    let listed = all.into_iter().map(|one| Listed {
        name: one.name,
        ip: one.ip,
        port: one.port,
        weight: one.weight,
        tier: one.tier,
        max_sessions: one.max_sessions,
        drains: None,
    });
    Ok(listed.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_one_line_with_their_place() {
        assert_eq!(read("/pg.yaml", b"[10.0.0.1:5432]").map(|all| all.len()), Ok(1));
        let told = read("/pg.yaml", b"- 10.0.0.1:5432\n- nonsense!\n- 10.0.0.2:x\n").unwrap_err();
        assert_eq!(told, "/pg.yaml:2:3: `nonsense!` is not an IP address (and 1 more)");
    }
}
