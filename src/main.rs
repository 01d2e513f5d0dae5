//! Arguments in, exit code out.
use std::process::ExitCode;

use clap::Parser;
use mmsproxy::cli::{CheckError, Cli, Command};
use mmsproxy::config::ConfigError;
use mmsproxy::{commands, telemetry};

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = telemetry::init(cli.log_format) {
        return fail(&error.into());
    }
    match run(&cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn run(command: &Command) -> anyhow::Result<()> {
    if let Command::Check(check) = command {
        return check.run(&mut std::io::stdout().lock()).map_err(|error| match error {
            CheckError::Config(error) => error.into(),
            error => error.into(),
        });
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        match command {
            Command::Serve(args) => commands::serve(args).await,
            Command::Demo(args) => commands::demo(args).await,
            Command::Origin(args) => commands::origin(args).await,
            Command::Probe(args) => commands::probe(args).await,
            Command::Record(args) => commands::record(args).await,
            Command::Cache(args) => commands::cache(args).await,
            Command::Check(_) => Ok(()),
        }
    });
    // A name that is still being looked up must not hold the process.
    runtime.shutdown_background();
    result
}

/// One line first, then the detail. 2 is wrong usage or config, 1 is everything else.
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error}");
    let mut said = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Some errors name their cause themselves.
        if !said.contains(&cause) {
            eprintln!("  because: {cause}");
        }
        said = cause;
    }
    let is_config = error.chain().any(|cause| cause.is::<ConfigError>());
    ExitCode::from(if is_config { 2 } else { 1 })
}
