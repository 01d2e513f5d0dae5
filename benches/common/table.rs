//! The table at the end: medians over the rounds, and their ratios to the first column.

use serde::Serialize;
use serde_json::json;

/// Cores that may be busy with others while figures are worth something.
pub const BUSY: f64 = 0.2;

/// One server, measured once.
pub trait Measured: Serialize {
    /// What its column is called.
    fn server(&self) -> &str;
}

/// A line of the table: what it tells of one round.
pub struct Figure<O> {
    pub name: &'static str,
    pub decimals: usize,
    pub of: Box<dyn Fn(&O) -> f64>,
}

impl<O> Figure<O> {
    pub fn new(name: &'static str, decimals: usize, of: impl Fn(&O) -> f64 + 'static) -> Self {
        Self { name, decimals, of: Box::new(of) }
    }
}

/// Prints the table, below `title`.
pub fn print<O: Measured>(title: &str, figures: &[Figure<O>], outcomes: &[O]) {
    let servers = servers(outcomes);
    println!("{title}");
    print!("{:<28}", "");
    for server in &servers {
        print!("{server:>12}");
    }
    let (first, others) = servers.split_first().map_or(("", &[][..]), |(first, others)| (*first, others));
    for other in others {
        print!("{:>22}", format!("{first}/{other}"));
    }
    println!();
    for figure in figures {
        print!("{:<28}", figure.name);
        let median = |name: &str| median(figure, outcomes, name);
        for server in &servers {
            print!("{:>12.*}", figure.decimals, median(server));
        }
        for other in others {
            let (ours, theirs) = (median(first), median(other));
            // Nothing compares with what is shown as zero.
            let compared = match theirs * 10_f64.powi(figure.decimals as i32) >= 0.5 {
                true => format!("{:.2}x {:+.3}", ours / theirs, ours - theirs),
                false => "-".into(),
            };
            print!("{compared:>22}");
        }
        println!();
    }
}

/// Prints the same as JSON, with each round.
pub fn print_json<O: Measured>(figures: &[Figure<O>], outcomes: &[O]) -> anyhow::Result<()> {
    let medians: serde_json::Map<String, serde_json::Value> = servers(outcomes)
        .iter()
        .map(|name| {
            let of_server =
                figures.iter().map(|figure| (figure.name.to_owned(), json!(median(figure, outcomes, name))));
            ((*name).to_owned(), of_server.collect::<serde_json::Map<_, _>>().into())
        })
        .collect();
    println!("{}", serde_json::to_string_pretty(&json!({ "medians": medians, "outcomes": outcomes }))?);
    Ok(())
}

/// In the order in which they were measured.
fn servers<O: Measured>(outcomes: &[O]) -> Vec<&str> {
    let mut servers = Vec::new();
    for name in outcomes.iter().map(Measured::server) {
        if !servers.contains(&name) {
            servers.push(name);
        }
    }
    servers
}

fn median<O: Measured>(figure: &Figure<O>, outcomes: &[O], name: &str) -> f64 {
    let of_server = outcomes.iter().filter(|outcome| outcome.server() == name);
    let mut values: Vec<f64> = of_server.map(|outcome| (figure.of)(outcome)).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.len() % 2, values.get(middle.wrapping_sub(1)), values.get(middle)) {
        (0, Some(below), Some(above)) => (below + above) / 2.0,
        (_, _, value) => value.copied().unwrap_or(0.0),
    }
}
