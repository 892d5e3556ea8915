//! What a client says first, as `explain` is told it: what routes go by.

use clap::Args;

/// What a client says and where it came to, by which routes go.
#[derive(Debug, Args)]
pub(in crate::cli) struct Said {
    /// The server name that its TLS says
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
    /// A protocol that its TLS offers
    #[arg(long, value_name = "NAME")]
    alpn: Option<String>,
    /// The database that it wants, in the clear (PostgreSQL)
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    /// The user it logs in as, in the clear (PostgreSQL)
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The host name that the player typed (Minecraft)
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// The port it came to [default: the first of the listener]
    #[arg(long, value_name = "PORT")]
    port: Option<String>,
}

impl Said {
    /// As a query.
    pub(super) fn query(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [
            ("sni", &self.sni),
            ("alpn", &self.alpn),
            ("database", &self.database),
            ("user", &self.user),
            ("host", &self.host),
            ("port", &self.port),
        ];
        all.into_iter().filter_map(|(key, value)| Some((key, value.as_deref()?)))
    }
}
