//! A plain page of the live figures. It loads nothing, runs no script and asks for itself anew every few seconds.

use std::fmt::{self, Display, Write};

use super::api::{Status, ViewerRow};

/// Viewers that the page lists; the API lists all.
const MAX_ROWS: usize = 200;

/// The page.
pub(super) fn render(status: &Status, viewers: &[ViewerRow]) -> String {
    Page { status, viewers }.to_string()
}

struct Page<'a> {
    status: &'a Status,
    viewers: &'a [ViewerRow],
}

impl Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        let status = self.status;
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
        figure(f, "Sessions at origins", status.origin_sessions)?;
        for address in &status.listeners.mms {
            figure(f, "Players come in at", address)?;
        }
        f.write_str("</table>\n<h2>Sessions</h2>\n")?;
        self.sessions(f)?;
        f.write_str(FOOT)
    }
}

impl Page<'_> {
    fn sessions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.viewers.is_empty() {
            return f.write_str("<p>None.</p>\n");
        }
        f.write_str(
            "<table>\n<tr><th>Id<th>Address<th>Since<th>Player<th>Content<th>Kind<th>State<th>Bytes<th>Packets</tr>\n",
        )?;
        for viewer in self.viewers.iter().take(MAX_ROWS) {
            let (id, address, since) = (viewer.id, viewer.address, Text(&viewer.since));
            let player = Text(viewer.player.as_deref().unwrap_or_default());
            let content = Text(viewer.content.as_deref().unwrap_or_default());
            let kind = viewer.kind.unwrap_or_default();
            let (state, bytes, packets) = (viewer.state, viewer.sent_bytes, viewer.sent_packets);
            write!(f, "<tr><td>{id}<td>{address}<td>{since}<td>{player}<td class=w>{content}<td>{kind}<td>{state}")?;
            writeln!(f, "<td class=n>{bytes}<td class=n>{packets}</tr>")?;
        }
        f.write_str("</table>\n")?;
        match self.viewers.len().saturating_sub(MAX_ROWS) {
            0 => Ok(()),
            more => writeln!(f, "<p>And {more} more: see the list of the API.</p>"),
        }
    }
}

fn figure(f: &mut fmt::Formatter<'_>, what: &str, value: impl Display) -> fmt::Result {
    writeln!(f, "<tr><th>{what}<td>{value}</tr>")
}

/// A text that a player or a config chose: markup is shown as it is, and what is not printed is left out.
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
<a href=/healthz>healthz</a> · <a href=/readyz>readyz</a></p>
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
        }
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
        let page = render(&status(), &[viewer("<script>alert('x')</script>\"&\u{7}")]);
        assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;\u{FFFD}"), "{page}");
        assert!(page.contains("edge-&lt;1&gt; 1.2.3, ready"), "{page}");
        assert!(!page.contains("<script"));
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let page = render(&status(), &[viewer("radio")]);
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("src="), "{page}");
    }

    #[test]
    fn a_long_list_is_cut_and_says_so() {
        let page = render(&status(), &vec![viewer("radio"); MAX_ROWS + 5]);
        assert_eq!(page.matches("<td class=w>radio").count(), MAX_ROWS);
        assert!(page.contains("And 5 more"));
    }

    #[test]
    fn no_session_is_said() {
        let page = render(&Status { draining: true, ..status() }, &[]);
        assert!(page.contains("<p>None.</p>") && page.contains("draining: no more viewers are taken"));
    }
}
