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
    table::print(&title(measurement), &figures, outcomes);
    for outcome in outcomes {
        for failure in &outcome.report.failures {
            println!("a viewer of {} failed: {failure}", outcome.server);
        }
    }
    if outcomes.iter().any(|outcome| outcome.usage.other_cpu_seconds > BUSY * outcome.report.seconds) {
        println!(
            "the machine was busy with others; a ratio is worth more than a figure, and a second run more than both"
        );
    }
    Ok(())
}

fn title(measurement: &Measurement) -> String {
    let what = match (measurement.fast, measurement.fill) {
        (true, _) => "the whole file as fast as it goes".into(),
        (_, true) => "each a file of its own that is not cached yet".into(),
        _ => format!("{} s at {} bit/s", measurement.seconds, measurement.shape.rate),
    };
    format!(
        "{} viewers, {what}, packets of {} bytes, {}, medians of {}",
        measurement.viewers(),
        measurement.shape.packet,
        if measurement.cold { "from disk" } else { "from memory" },
        measurement.rounds.max(1)
    )
}

fn figures(measurement: &Measurement) -> Vec<Figure<Outcome>> {
    let viewers = measurement.viewers() as f64;
    let mut figures = vec![
        figure("viewers that joined", 0, |outcome| outcome.report.joined as f64),
        figure("failed", 0, |outcome| outcome.report.failed as f64),
        figure("short of packets", 0, |outcome| outcome.report.short as f64),
        figure("skips", 0, |outcome| outcome.report.skips as f64),
        figure("Gbit/s", 3, |outcome| outcome.report.gigabits / outcome.report.seconds),
        figure("CPU s per Gbit", 4, |outcome| outcome.usage.cpu_seconds / outcome.report.gigabits),
        figure("CPU s per Gbit, load", 4, |outcome| outcome.usage.load_cpu_seconds / outcome.report.gigabits),
        figure("CPU s per Gbit, both ends", 4, |outcome| {
            (outcome.usage.cpu_seconds + outcome.usage.load_cpu_seconds) / outcome.report.gigabits
        }),
        figure("cores busy with others", 2, |outcome| outcome.usage.other_cpu_seconds / outcome.report.seconds),
        figure("memory per viewer, kB", 2, move |outcome| {
            outcome.after.resident.saturating_sub(outcome.before.resident) as f64 / 1000.0 / viewers
        }),
        figure("peak memory, MB", 2, |outcome| outcome.after.peak as f64 / 1e6),
        figure("kernel per viewer, kB", 2, move |outcome| outcome.kernel_bytes as f64 / 1000.0 / viewers),
        figure("read, times the file", 3, |outcome| {
            (outcome.after.read - outcome.before.read) as f64 / outcome.distinct_bytes as f64
        }),
        figure("from disk, times the file", 3, |outcome| {
            (outcome.after.read_from_disk - outcome.before.read_from_disk) as f64 / outcome.distinct_bytes as f64
        }),
        figure("join p50, ms", 2, |outcome| outcome.report.join.p50),
        figure("join p99, ms", 2, |outcome| outcome.report.join.p99),
    ];
    if !measurement.takes_all() {
        figures.extend([
            figure("late p50, ms", 3, |outcome| outcome.report.late.p50),
            figure("late p99, ms", 3, |outcome| outcome.report.late.p99),
            figure("late max, ms", 3, |outcome| outcome.report.late.max),
        ]);
    }
    figures
}

/// Lets closures know what they are given.
fn figure(name: &'static str, decimals: usize, of: impl Fn(&Outcome) -> f64 + 'static) -> Figure<Outcome> {
    Figure::new(name, decimals, of)
}
