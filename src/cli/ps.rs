//! `gguf ps`: the models that a server has loaded.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use gguf_toolkit::bench::LoadServer;
use gguf_toolkit::printable::printable;
use serde_json::{Value as Json, json};

use crate::table::{Column, Table};
use crate::{model_args, units};

/// Version of the objects of `--json`.
const SCHEMA_VERSION: u32 = 1;
/// Models that are kept for ever have a time after this one.
const FOR_EVER: &str = "2300";

/// Lists the models that a running gguf serve has loaded. Ollama's server is asked in the same way.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf ps --url http://127.0.0.1:8080                        # where gguf serve listens by default
  gguf ps --url http://127.0.0.1:8080 --json | jq -r '.[].name'")]
pub(crate) struct Args {
    /// The server; also from GGUF_SERVER
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Its key; also from GGUF_API_KEY
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    /// Print a JSON array with an object for each model
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let url = args.url.clone().or_else(|| variable("GGUF_SERVER"));
    let url = url.unwrap_or_else(|| "http://127.0.0.1:8080".to_owned());
    let server = LoadServer::new(&url, args.api_key.clone().or_else(|| variable("GGUF_API_KEY")))?;
    let answer = server.get("/api/ps").with_context(|| "no server answers (--url names another)")?;
    let models = answer["models"].as_array().cloned().unwrap_or_default();
    if args.json {
        let all: Json = models.iter().map(as_json).collect();
        model_args::print(&format!("{all:#}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    if models.is_empty() {
        eprintln!("no models are loaded");
        return Ok(ExitCode::SUCCESS);
    }
    let columns = [
        Column::names("name"),
        Column::left("id").optional(3),
        Column::right("size"),
        Column::left("processor").optional(2),
        Column::right("context").optional(1),
        Column::left("until"),
    ];
    let mut table = Table::new(columns);
    for model in &models {
        let text = |name: &str| printable(model[name].as_str().unwrap_or_default()).to_string();
        table.row([
            text("name"),
            text("digest").chars().take(12).collect(),
            units::bytes(model["size"].as_u64().unwrap_or(0)),
            processor(model),
            model["context_length"].as_u64().map_or_else(String::new, |n| n.to_string()),
            until(&text("expires_at")),
        ]);
    }
    table.write(&mut std::io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}

/// How much of a model is in the memory of a graphics card.
fn processor(model: &Json) -> String {
    let (size, vram) = (model["size"].as_u64().unwrap_or(0).max(1), model["size_vram"].as_u64().unwrap_or(0));
    match vram.saturating_mul(100) / size {
        0 => "100% CPU".to_owned(),
        100.. => "100% GPU".to_owned(),
        share => format!("{}%/{share}% CPU/GPU", 100 - share),
    }
}

/// How long a model stays, if nobody asks for it.
fn until(expires: &str) -> String {
    if expires > FOR_EVER {
        return "for ever".to_owned();
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    match seconds(expires).map(|end| end.saturating_sub(now)) {
        None => String::new(),
        Some(left) if left < 60 => format!("{left} s from now"),
        Some(left) if left < 7200 => format!("{} minutes from now", left / 60),
        Some(left) => format!("{} hours from now", left / 3600),
    }
}

/// The seconds since 1970 of a time like `2026-08-21T10:00:00.5Z`, or one with the distance from Greenwich.
fn seconds(time: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| time.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    // Days since 1970 of the Gregorian calendar, whose years are counted from March here.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day - 719_469;
    let clock = number(11..13)? * 3600 + number(14..16)? * 60 + number(17..19)?;
    let zone = time.get(19..)?.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let ahead = match zone.split_at_checked(1) {
        Some((sign @ ("+" | "-"), rest)) => {
            let (hours, minutes) = rest.split_once(':')?;
            let ahead = hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60;
            if sign == "+" { ahead } else { -ahead }
        }
        _ => 0,
    };
    u64::try_from(days * 86_400 + clock - ahead).ok()
}

fn as_json(model: &Json) -> Json {
    json!({
        "schema_version": SCHEMA_VERSION,
        "name": model["name"],
        "id": model["digest"],
        "bytes": model["size"],
        "vram_bytes": model["size_vram"],
        "context_length": model["context_length"],
        "expires_at": model["expires_at"],
    })
}

#[cfg(test)]
mod tests {
    use super::{seconds, until};

    #[test]
    fn times_are_seconds() {
        assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(seconds("2000-02-29T12:30:05.123Z"), Some(951_827_405));
        assert_eq!(seconds("2026-11-30T17:00:00.5+01:00"), Some(1_796_054_400));
        assert_eq!(seconds("2026-11-30T17:00:00-02:30"), Some(1_796_067_000));
        assert_eq!(seconds("soon"), None);
        assert_eq!(until("2318-01-01T00:00:00Z"), "for ever");
        assert_eq!(until("1999-01-01T00:00:00Z"), "0 s from now");
    }
}
