//! A plain page of the live figures. It loads nothing, runs no script and asks for itself anew every few seconds.

use std::fmt::{self, Display, Write};

use super::api::{Status, ViewerRow};
use super::broadcasts::BroadcastRow;
use super::cache::EntryRow;
use super::origins::OriginRow;
use crate::content::HostPort;

/// Rows of a table; the API lists all.
const MAX_ROWS: usize = 200;

/// What the page shows.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    pub(super) status: Status,
    pub(super) viewers: Vec<ViewerRow>,
    pub(super) broadcasts: Vec<BroadcastRow>,
    pub(super) origins: Vec<OriginRow>,
    /// Those of the cache that are in memory.
    pub(super) entries: Vec<EntryRow>,
}

/// The page.
pub(super) fn render(figures: &Figures) -> String {
    Page(figures).to_string()
}

struct Page<'a>(&'a Figures);

impl Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { status, viewers, broadcasts, origins, entries } = self.0;
        f.write_str(HEAD)?;
        let state = match (status.draining, status.ready) {
            (true, _) => "draining: no more viewers are taken",
            (false, true) => "ready",
            (false, false) => "starting",
        };
        let version = Text(status.version);
        writeln!(f, "<h1>mmsproxy</h1>\n<p>{} {version}, {state}</p>\n<table>", Text(&status.name))?;
        let started = format_args!("{} ({} s ago)", Text(&status.started_at), status.uptime_seconds);
        figure(f, "Started", started)?;
        figure(f, "Connections", status.connections)?;
        figure(f, "Viewers of broadcasts", status.viewers_by_content.broadcast)?;
        figure(f, "Viewers of on-demand content", status.viewers_by_content.on_demand)?;
        figure(f, "Broadcasts", status.broadcasts)?;
        figure(f, "Sessions at origins", status.origin_sessions)?;
        if let Some(cache) = &status.cache {
            let (bytes, most) = (cache.bytes, cache.max_size);
            figure(f, "Cache", format_args!("{bytes} of {most} bytes, {} entries", cache.entries))?;
            figure(f, "Fills", cache.fills)?;
        }
        for address in &status.listeners.mms {
            figure(f, "Players come in at", address)?;
        }
        f.write_str("</table>\n")?;
        table(f, "Broadcasts", BROADCASTS, broadcasts, broadcast)?;
        table(f, "Origins", ORIGINS, origins, origin)?;
        if status.cache.is_some() {
            table(f, "Played lately out of the cache", ENTRIES, entries, entry)?;
        }
        table(f, "Sessions", SESSIONS, viewers, session)?;
        f.write_str(FOOT)
    }
}

const BROADCASTS: &[&str] =
    &["Name", "State", "Viewers", "Bit rate", "History", "History bytes", "Since", "Origin", "Reconnects"];
const ORIGINS: &[&str] = &["Origin", "State", "Until", "Sessions", "Limit", "Scheme", "Reason"];
const ENTRIES: &[&str] = &["URL", "State", "There", "Readers", "Fills", "Plays", "Last used", "Validated"];
const SESSIONS: &[&str] = &["Id", "Address", "Since", "Player", "Content", "Kind", "State", "Bytes", "Packets"];

type Row<T> = fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result;

/// Each row writes its cells.
fn table<T>(f: &mut fmt::Formatter<'_>, title: &str, columns: &[&str], rows: &[T], row: Row<T>) -> fmt::Result {
    writeln!(f, "<h2>{title}</h2>")?;
    if rows.is_empty() {
        return f.write_str("<p>None.</p>\n");
    }
    f.write_str("<table>\n<tr>")?;
    columns.iter().try_for_each(|column| write!(f, "<th>{column}"))?;
    f.write_str("</tr>\n")?;
    for shown in rows.iter().take(MAX_ROWS) {
        f.write_str("<tr>")?;
        row(f, shown)?;
        f.write_str("</tr>\n")?;
    }
    f.write_str("</table>\n")?;
    match rows.len().saturating_sub(MAX_ROWS) {
        0 => Ok(()),
        more => writeln!(f, "<p>And {more} more: see the list of the API.</p>"),
    }
}

fn broadcast(f: &mut fmt::Formatter<'_>, row: &BroadcastRow) -> fmt::Result {
    let (state, viewers, reconnects) = (row.state, row.viewers, row.reconnects);
    write!(f, "<td class=w>{}<td>{state}<td class=n>{viewers}<td class=n>", Text(&row.key))?;
    if let Some(bit_rate) = row.bit_rate {
        write!(f, "{} kb/s", bit_rate / 1000)?;
    }
    write!(f, "<td class=n>{:.1} s<td class=n>{}", row.history_seconds, row.history_bytes)?;
    write!(f, "<td>{}<td class=w>{}<td class=n>{reconnects}", Maybe(&row.since), Maybe(&row.origin))
}

fn origin(f: &mut fmt::Formatter<'_>, row: &OriginRow) -> fmt::Result {
    let at = HostPort { host: row.host.clone(), port: Some(row.port) }.to_string();
    let (at, state, until) = (Text(&at), row.state, Maybe(&row.until));
    write!(f, "<td class=w>{at}<td>{state}<td>{until}<td class=n>{}<td class=n>{}", row.sessions, row.limit)?;
    write!(f, "<td>{}<td class=w>{}", row.scheme.unwrap_or_default(), Maybe(&row.why))
}

fn entry(f: &mut fmt::Formatter<'_>, row: &EntryRow) -> fmt::Result {
    let (url, state, percent) = (Text(&row.url), row.state, row.percent());
    write!(f, "<td class=w>{url}<td>{state}<td class=n>{percent} %<td class=n>{}", row.readers)?;
    write!(f, "<td class=n>{}<td class=n>{}<td>{}<td>{}", row.fills, row.plays, row.last_used_at, row.validated_at)
}

fn session(f: &mut fmt::Formatter<'_>, row: &ViewerRow) -> fmt::Result {
    let (id, address, since) = (row.id, row.address, Text(&row.since));
    let (player, content, kind) = (Maybe(&row.player), Maybe(&row.content), row.kind.unwrap_or_default());
    let (state, bytes, packets) = (row.state, row.sent_bytes, row.sent_packets);
    write!(f, "<td>{id}<td>{address}<td>{since}<td>{player}<td class=w>{content}<td>{kind}<td>{state}")?;
    write!(f, "<td class=n>{bytes}<td class=n>{packets}")
}

fn figure(f: &mut fmt::Formatter<'_>, what: &str, value: impl Display) -> fmt::Result {
    writeln!(f, "<tr><th>{what}<td>{value}</tr>")
}

/// A text that may be missing.
struct Maybe<'a>(&'a Option<String>);

impl Display for Maybe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Text(self.0.as_deref().unwrap_or_default()).fmt(f)
    }
}

/// A text that a player, an origin or a config chose: markup is shown as it is, and what is not printed is left out.
struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                letter if letter.is_control() => f.write_char('\u{FFFD}')?,
                letter => f.write_char(letter)?,
            }
        }
        Ok(())
    }
}

const HEAD: &str = "\
<!DOCTYPE html>
<html lang=en>
<meta charset=utf-8>
<meta http-equiv=refresh content=5>
<meta name=viewport content=\"width=device-width\">
<meta name=color-scheme content=\"light dark\">
<title>mmsproxy</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em }
table { border-collapse: collapse }
th, td { border-bottom: 1px solid #8886; padding: .2em 1.2em .2em 0; text-align: left; vertical-align: top }
th { font-weight: 600 }
td { white-space: nowrap }
.w { white-space: normal; overflow-wrap: anywhere; min-width: 4em }
.n { text-align: right }
</style>
";

const FOOT: &str = "\
<h2>More</h2>
<p><a href=/metrics>metrics</a> · <a href=/api/v1/status>status</a> · <a href=/api/v1/viewers>viewers</a> ·
<a href=/api/v1/broadcasts>broadcasts</a> · <a href=/api/v1/origins>origins</a> · <a href=/api/v1/cache>cache</a> · <a href=/healthz>healthz</a> · <a href=/readyz>readyz</a></p>
</html>
";

#[cfg(test)]
mod tests {
    use super::super::api::{ByContent, Listeners};
    use super::*;

    fn status() -> Status {
        Status {
            version: "1.2.3",
            name: "edge-<1>".to_owned(),
            started_at: "2026-01-02T03:04:05.000Z".to_owned(),
            uptime_seconds: 61,
            ready: true,
            draining: false,
            listeners: Listeners { mms: vec![([127, 0, 0, 1], 1755).into()], admin: None },
            connections: 3,
            viewers: 2,
            viewers_by_content: ByContent { broadcast: 1, on_demand: 1 },
            origin_sessions: 2,
            broadcasts: 1,
            cache: None,
        }
    }

    fn figures(viewers: Vec<ViewerRow>) -> Figures {
        Figures { status: status(), viewers, broadcasts: vec![], origins: vec![], entries: vec![] }
    }

    fn viewer(content: &str) -> ViewerRow {
        ViewerRow {
            id: 7,
            address: ([192, 0, 2, 9], 40000).into(),
            since: "2026-01-02T03:05:00.000Z".to_owned(),
            player: Some("NSPlayer/7.0.0.1956".to_owned()),
            content: Some(content.to_owned()),
            kind: Some("broadcast"),
            funnel: "tcp",
            state: "streaming",
            sent_bytes: 1000,
            sent_packets: 10,
        }
    }

    #[test]
    fn what_a_player_says_is_no_markup() {
        let page = render(&figures(vec![viewer("<script>alert('x')</script>\"&\u{7}")]));
        assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;\u{FFFD}"), "{page}");
        assert!(page.contains("edge-&lt;1&gt; 1.2.3, ready"), "{page}");
        assert!(!page.contains("<script"));
    }

    #[test]
    fn broadcasts_and_origins_are_rows_and_no_markup() {
        let broadcast = BroadcastRow {
            key: "ms.example:1755/<b>live".to_owned(),
            state: "playing",
            viewers: 12,
            entry: Some(1),
            bit_rate: Some(300_500),
            history_seconds: 19.96,
            history_bytes: 750_000,
            since: Some("2026-01-02T03:05:00.000Z".to_owned()),
            origin: Some("<i>.example:1755".to_owned()),
            reconnects: 2,
        };
        let origin = OriginRow {
            host: "<u>.example".to_owned(),
            port: 1755,
            state: "down",
            until: Some("2026-01-02T03:05:02.000Z".to_owned()),
            why: Some("\"no\"".to_owned()),
            scheme: Some("ntlm"),
            sessions: 1,
            limit: 500,
        };
        let opening = BroadcastRow { state: "opening", entry: None, bit_rate: None, ..broadcast.clone() };
        let page = render(&Figures { broadcasts: vec![broadcast, opening], origins: vec![origin], ..figures(vec![]) });
        let row = "<tr><td class=w>ms.example:1755/&lt;b&gt;live<td>playing<td class=n>12<td class=n>300 kb/s\
                   <td class=n>20.0 s<td class=n>750000<td>2026-01-02T03:05:00.000Z<td class=w>&lt;i&gt;.example:1755\
                   <td class=n>2</tr>\n";
        assert!(page.contains(row), "{page}");
        assert!(page.contains("<td>opening<td class=n>12<td class=n><td class=n>20.0 s"), "{page}");
        let row = "<tr><td class=w>&lt;u&gt;.example:1755<td>down<td>2026-01-02T03:05:02.000Z<td class=n>1\
                   <td class=n>500<td>ntlm<td class=w>&quot;no&quot;</tr>\n";
        assert!(page.contains(row), "{page}");
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let page = render(&figures(vec![viewer("radio")]));
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("src="), "{page}");
    }

    #[test]
    fn a_long_list_is_cut_and_says_so() {
        let page = render(&figures(vec![viewer("radio"); MAX_ROWS + 5]));
        assert_eq!(page.matches("<td class=w>radio").count(), MAX_ROWS);
        assert!(page.contains("And 5 more"));
    }

    #[test]
    fn an_empty_table_is_said() {
        let page = render(&Figures { status: Status { draining: true, ..status() }, ..figures(vec![]) });
        assert!(page.contains("<h2>Broadcasts</h2>\n<p>None.</p>\n<h2>Origins</h2>\n<p>None.</p>"), "{page}");
        assert!(
            page.contains("<h2>Sessions</h2>\n<p>None.</p>") && page.contains("draining: no more viewers are taken")
        );
    }
}
