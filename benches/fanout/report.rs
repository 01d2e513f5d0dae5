//! What is told at the end.

use crate::common::table::{self, BUSY, Figure};
use crate::measure::Outcome;
use crate::options::Measurement;

/// Prints a table, or JSON.
pub fn print(measurement: &Measurement, outcomes: &[Outcome]) -> anyhow::Result<()> {
    let figures = figures(measurement);
    if measurement.json {
        return table::print_json(&figures, outcomes);
    }
    let title = format!(
        "{} viewers, {} bit/s in packets of {} bytes, flush {:?}, {} s, medians of {}",
        measurement.viewers,
        measurement.shape.rate,
        measurement.shape.packet,
        measurement.flush,
        measurement.seconds,
        measurement.rounds.max(1)
    );
    table::print(&title, &figures, outcomes);
    for outcome in outcomes.iter().filter(|outcome| !outcome.report.failures.is_empty()) {
        for failure in &outcome.report.failures {
            println!("a viewer of {} failed: {failure}", outcome.server);
        }
    }
    if outcomes.iter().any(|outcome| outcome.usage.other_cpu_seconds > BUSY * outcome.report.seconds) {
        println!("the machine was busy with others: turns came late, and late turns are cheap; measure again");
    }
    if measurement.sustain {
        verdict(measurement, outcomes);
    }
    Ok(())
}

/// Nobody is short, and who waits a second for a packet is one in a hundred at most.
fn verdict(measurement: &Measurement, outcomes: &[Outcome]) {
    for outcome in outcomes {
        let report = &outcome.report;
        let all_play = report.short == 0 && outcome.has_all(measurement.viewers);
        let verdict = if all_play && report.latency.p99 < 1000.0 { "sustained" } else { "NOT sustained" };
        println!("{}: {} viewers {verdict}", outcome.server, measurement.viewers);
    }
}

fn figures(measurement: &Measurement) -> Vec<Figure<Outcome>> {
    let viewers = measurement.viewers as f64;
    let mut figures = vec![
        figure("viewers that joined", 0, |outcome| outcome.report.joined as f64),
        figure("failed", 0, |outcome| outcome.report.failed as f64),
        figure("short of packets", 0, |outcome| outcome.report.short as f64),
        figure("skips", 0, |outcome| outcome.report.skips as f64),
        figure("Gbit/s", 3, |outcome| outcome.report.gigabits / outcome.report.seconds),
        figure("Gbit/s per busy core", 3, |outcome| outcome.report.gigabits / outcome.usage.cpu_seconds),
        figure("CPU s per Gbit", 4, |outcome| outcome.usage.cpu_seconds / outcome.report.gigabits),
        figure("CPU s per Gbit, load", 4, |outcome| outcome.usage.load_cpu_seconds / outcome.report.gigabits),
        figure("cores busy with others", 2, |outcome| outcome.usage.other_cpu_seconds / outcome.report.seconds),
        figure("memory per viewer, kB", 2, move |outcome| {
            let grown = outcome.resident_end.saturating_sub(outcome.resident_before);
            grown as f64 / 1000.0 / viewers
        }),
        figure("  grown in the window, kB", 0, |outcome| {
            outcome.resident_end.saturating_sub(outcome.resident_begin) as f64 / 1000.0
        }),
        figure("kernel per viewer, kB", 2, move |outcome| outcome.kernel_bytes as f64 / 1000.0 / viewers),
        figure("join p50, ms", 2, |outcome| outcome.report.join.p50),
        figure("join p99, ms", 2, |outcome| outcome.report.join.p99),
        figure("join max, ms", 2, |outcome| outcome.report.join.max),
    ];
    if measurement.hot_join {
        figures.extend([
            figure("hot joins", 0, |outcome| outcome.report.hot_joined as f64),
            figure("hot join p50, ms", 3, |outcome| outcome.report.hot_join.p50),
            figure("hot join p99, ms", 3, |outcome| outcome.report.hot_join.p99),
        ]);
    }
    figures.extend([
        figure("latency p50, ms", 3, |outcome| outcome.report.latency.p50),
        figure("latency p99, ms", 3, |outcome| outcome.report.latency.p99),
        figure("latency p99.9, ms", 3, |outcome| outcome.report.latency.p999),
        figure("latency max, ms", 3, |outcome| outcome.report.latency.max),
    ]);
    figures
}

/// Lets closures know what they are given.
fn figure(name: &'static str, decimals: usize, of: impl Fn(&Outcome) -> f64 + 'static) -> Figure<Outcome> {
    Figure::new(name, decimals, of)
}
