//! The table at the end: medians over the rounds, and their ratios.

use serde_json::json;

use crate::measure::Outcome;
use crate::options::Measurement;

/// A line of the table.
struct Figure {
    name: &'static str,
    decimals: usize,
    of: fn(&Outcome, &Measurement) -> f64,
}

/// Prints a table, or JSON.
pub fn print(measurement: &Measurement, outcomes: &[Outcome]) -> anyhow::Result<()> {
    let mut servers: Vec<&str> = Vec::new();
    for outcome in outcomes {
        if !servers.contains(&outcome.server.as_str()) {
            servers.push(&outcome.server);
        }
    }
    let median = |figure: &Figure, server: &str| {
        let of_server = outcomes.iter().filter(|outcome| outcome.server == server);
        median_of(of_server.map(|outcome| (figure.of)(outcome, measurement)).collect())
    };
    let figures = figures(measurement);
    if measurement.json {
        let medians: serde_json::Map<String, serde_json::Value> = servers
            .iter()
            .map(|server| {
                let of_server = figures.iter().map(|figure| (figure.name.to_owned(), json!(median(figure, server))));
                ((*server).to_owned(), of_server.collect::<serde_json::Map<_, _>>().into())
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&json!({ "medians": medians, "outcomes": outcomes }))?);
        return Ok(());
    }
    println!(
        "{} viewers, {} bit/s in packets of {} bytes, flush {:?}, {} s, medians of {}",
        measurement.viewers,
        measurement.shape.rate,
        measurement.shape.packet,
        measurement.flush,
        measurement.seconds,
        measurement.rounds.max(1)
    );
    print!("{:<28}", "");
    for server in &servers {
        print!("{server:>12}");
    }
    let (first, others) = servers.split_first().map_or(("", &[][..]), |(first, others)| (*first, others));
    for other in others {
        print!("{:>22}", format!("{first}/{other}"));
    }
    println!();
    for figure in &figures {
        print!("{:<28}", figure.name);
        for server in &servers {
            print!("{:>12.*}", figure.decimals, median(figure, server));
        }
        for other in others {
            let (ours, theirs) = (median(figure, first), median(figure, other));
            let compared =
                if theirs > 0.0 { format!("{:.2}x {:+.3}", ours / theirs, ours - theirs) } else { "-".into() };
            print!("{compared:>22}");
        }
        println!();
    }
    for outcome in outcomes.iter().filter(|outcome| !outcome.report.failures.is_empty()) {
        for failure in &outcome.report.failures {
            println!("a viewer of {} failed: {failure}", outcome.server);
        }
    }
    if outcomes.iter().any(|outcome| outcome.other_cpu_seconds > BUSY * outcome.report.seconds) {
        println!("the machine was busy with others: turns came late, and late turns are cheap; measure again");
    }
    if measurement.sustain {
        verdict(measurement, outcomes);
    }
    Ok(())
}

/// Cores that may be busy with others while figures are worth something.
const BUSY: f64 = 0.2;

/// Nobody is short, and who waits a second for a packet is one in a hundred at most.
fn verdict(measurement: &Measurement, outcomes: &[Outcome]) {
    for outcome in outcomes {
        let report = &outcome.report;
        let all_play = report.short == 0 && outcome.has_all(measurement.viewers);
        let verdict = if all_play && report.latency.p99 < 1000.0 { "sustained" } else { "NOT sustained" };
        println!("{}: {} viewers {verdict}", outcome.server, measurement.viewers);
    }
}

fn median_of(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.len() % 2, values.get(middle.wrapping_sub(1)), values.get(middle)) {
        (0, Some(below), Some(above)) => (below + above) / 2.0,
        (_, _, value) => value.copied().unwrap_or(0.0),
    }
}

fn figures(measurement: &Measurement) -> Vec<Figure> {
    let figure = |name, decimals, of| Figure { name, decimals, of };
    let mut figures = vec![
        figure("viewers that joined", 0, |outcome, _| outcome.report.joined as f64),
        figure("failed", 0, |outcome, _| outcome.report.failed as f64),
        figure("short of packets", 0, |outcome, _| outcome.report.short as f64),
        figure("skips", 0, |outcome, _| outcome.report.skips as f64),
        figure("Gbit/s", 3, |outcome, _| outcome.report.gigabits / outcome.report.seconds),
        figure("Gbit/s per busy core", 3, |outcome, _| outcome.report.gigabits / outcome.cpu_seconds),
        figure("CPU s per Gbit", 4, |outcome, _| outcome.cpu_seconds / outcome.report.gigabits),
        figure("CPU s per Gbit, load", 4, |outcome, _| outcome.load_cpu_seconds / outcome.report.gigabits),
        figure("cores busy with others", 2, |outcome, _| outcome.other_cpu_seconds / outcome.report.seconds),
        figure("memory per viewer, kB", 2, |outcome, measurement| {
            let grown = outcome.resident_end.saturating_sub(outcome.resident_before);
            grown as f64 / 1000.0 / measurement.viewers as f64
        }),
        figure("  grown in the window, kB", 0, |outcome, _| {
            outcome.resident_end.saturating_sub(outcome.resident_begin) as f64 / 1000.0
        }),
        figure("kernel per viewer, kB", 2, |outcome, measurement| {
            outcome.kernel_bytes as f64 / 1000.0 / measurement.viewers as f64
        }),
        figure("join p50, ms", 2, |outcome, _| outcome.report.join.p50),
        figure("join p99, ms", 2, |outcome, _| outcome.report.join.p99),
        figure("join max, ms", 2, |outcome, _| outcome.report.join.max),
    ];
    if measurement.hot_join {
        figures.extend([
            figure("hot joins", 0, |outcome, _| outcome.report.hot_joined as f64),
            figure("hot join p50, ms", 3, |outcome, _| outcome.report.hot_join.p50),
            figure("hot join p99, ms", 3, |outcome, _| outcome.report.hot_join.p99),
        ]);
    }
    figures.extend([
        figure("latency p50, ms", 3, |outcome, _| outcome.report.latency.p50),
        figure("latency p99, ms", 3, |outcome, _| outcome.report.latency.p99),
        figure("latency p99.9, ms", 3, |outcome, _| outcome.report.latency.p999),
        figure("latency max, ms", 3, |outcome, _| outcome.report.latency.max),
    ]);
    figures
}
