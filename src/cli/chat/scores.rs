//! Votes on the answers of several models: a line of JSON for each in a file, and what comes of them: wins of each pair, and ratings.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use gguf_toolkit::printable::{printable, printable_path};
use serde_json::{Value as Json, json};

use super::editor::state_path;
use crate::model_args;
use crate::table::{Column, Table};

/// Version of the lines of the file, and of the object of `--scores --json`.
const SCHEMA_VERSION: u32 = 1;
/// The rating of a model that wins as often as it loses against models of this rating.
const AVERAGE: f64 = 1000.0;
/// A model that is rated so many points higher wins ten times as often as it loses.
const TENFOLD: f64 = 400.0;

/// What somebody has said about the answers to a message.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Vote {
    /// The models that answered.
    pub(super) models: Vec<String>,
    /// The one whose answer is the best; `None` for a tie of all.
    pub(super) winner: Option<usize>,
}

impl Vote {
    /// Reads a line of the file. A line of a later version, or one that was cut short, is none.
    fn parse(line: &str) -> Option<Self> {
        let json: Json = serde_json::from_str(line).ok()?;
        if json.get("version")?.as_u64()? != u64::from(SCHEMA_VERSION) {
            return None;
        }
        let models = json.get("models")?.as_array()?;
        let models: Vec<String> = models.iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<_>>()?;
        let winner = match json.get("winner")? {
            Json::Null => None,
            winner => Some(models.iter().position(|model| winner == model.as_str())?),
        };
        (models.len() > 1).then_some(Self { models, winner })
    }

    /// Adds the vote to the file, with the `message` that was answered, and whether names were hidden. Returns the file.
    ///
    /// # Errors
    /// When there is no place for it, or it cannot be written.
    pub(super) fn keep(&self, message: &str, blind: bool) -> anyhow::Result<PathBuf> {
        let path = path().context("no place to keep votes: neither XDG_STATE_HOME nor a home folder is set")?;
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let winner = self.winner.map(|winner| self.models[winner].as_str());
        let line = json!({
            "version": SCHEMA_VERSION, "time": time, "models": self.models, "winner": winner, "blind": blind,
            "message": message,
        });
        append(&path, &format!("{line}\n")).with_context(|| printable_path(&path).to_string())?;
        Ok(path)
    }
}

/// One write, so that chats in two terminals do not mix their lines.
fn append(path: &Path, line: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::OpenOptions::new().create(true).append(true).open(path)?.write_all(line.as_bytes())
}

/// The file of all votes.
fn path() -> Option<PathBuf> {
    state_path("votes.jsonl")
}

/// What two models have won against each other.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Pair {
    /// Votes for the first, for the second, and for neither.
    wins: [usize; 2],
    ties: usize,
}

/// What came of all votes.
#[derive(Debug, Default)]
struct Scores {
    votes: usize,
    /// Names, by rating.
    models: Vec<(String, f64)>,
    /// By the names of both.
    pairs: BTreeMap<(String, String), Pair>,
}

impl Scores {
    fn new(votes: &[Vote]) -> Self {
        let mut pairs: BTreeMap<(String, String), Pair> = BTreeMap::new();
        for vote in votes {
            for (i, first) in vote.models.iter().enumerate() {
                for (j, second) in vote.models.iter().enumerate().filter(|(_, second)| *second > first) {
                    let pair = pairs.entry((first.clone(), second.clone())).or_default();
                    match vote.winner {
                        Some(winner) if winner == i => pair.wins[0] += 1,
                        Some(winner) if winner == j => pair.wins[1] += 1,
                        // Nothing is said about two that have both lost.
                        Some(_) => {}
                        None => pair.ties += 1,
                    }
                }
            }
        }
        pairs.retain(|_, pair| *pair != Pair::default());
        let mut names: Vec<String> = votes.iter().flat_map(|vote| vote.models.clone()).collect();
        names.sort();
        names.dedup();
        let ratings = ratings(&names, &pairs);
        let mut models: Vec<(String, f64)> = names.into_iter().zip(ratings).collect();
        models.sort_by(|a, b| b.1.total_cmp(&a.1));
        Self { votes: votes.len(), models, pairs }
    }

    /// Wins, losses and ties of a model.
    fn sums(&self, model: &str) -> [usize; 3] {
        let mut sums = [0; 3];
        for ((first, second), pair) in &self.pairs {
            let [won, lost] = pair.wins;
            let one = match model {
                model if model == first => [won, lost, pair.ties],
                model if model == second => [lost, won, pair.ties],
                _ => continue,
            };
            sums.iter_mut().zip(one).for_each(|(sum, n)| *sum += n);
        }
        sums
    }

    fn to_json(&self) -> Json {
        let model = |(name, rating): &(String, f64)| {
            let [wins, losses, ties] = self.sums(name);
            json!({ "name": name, "rating": rating.round(), "wins": wins, "losses": losses, "ties": ties })
        };
        let pair = |((first, second), pair): (&(String, String), &Pair)| json!({ "models": [first, second], "wins": pair.wins, "ties": pair.ties });
        json!({
            "version": SCHEMA_VERSION,
            "votes": self.votes,
            "models": self.models.iter().map(model).collect::<Vec<_>>(),
            "pairs": self.pairs.iter().map(pair).collect::<Vec<_>>(),
        })
    }

    fn write(&self, out: &mut Vec<u8>) -> io::Result<()> {
        let columns = ["wins", "losses", "ties"].map(Column::right);
        let [wins, losses, ties] = columns;
        let mut table = Table::new([Column::names("model"), Column::right("rating"), wins, losses, ties]);
        for (name, rating) in &self.models {
            let [wins, losses, ties] = self.sums(name).map(|n| n.to_string());
            table.row([printable(name).to_string(), format!("{rating:.0}"), wins, losses, ties]);
        }
        table.write(out)?;
        writeln!(out)?;
        let mut table = Table::new([
            Column::names("model"),
            Column::names("against"),
            Column::right("wins"),
            Column::right("losses"),
            Column::right("ties"),
        ]);
        for ((first, second), Pair { wins, ties }) in &self.pairs {
            // Who has won more often stands first.
            let (first, second, wins) =
                if wins[1] > wins[0] { (second, first, [wins[1], wins[0]]) } else { (first, second, *wins) };
            table.row([
                printable(first).to_string(),
                printable(second).to_string(),
                wins[0].to_string(),
                wins[1].to_string(),
                ties.to_string(),
            ]);
        }
        table.write(out)
    }
}

/// Ratings by the Bradley-Terry model: the strengths p for which the wins are likeliest, if a model wins against another with the
/// probability p / (p + q); on the scale of Elo. A tie is half a win for both. Every model also has one tie with a made-up
/// opponent of the average rating, so that one which has won all has a rating, too.
fn ratings(names: &[String], pairs: &BTreeMap<(String, String), Pair>) -> Vec<f64> {
    const MOST_ROUNDS: usize = 10_000;
    let at = |name: &String| names.binary_search(name).ok();
    let games: Vec<(usize, usize, [f64; 2])> = pairs
        .iter()
        .filter_map(|((first, second), pair)| {
            let half = f64::from(u32::try_from(pair.ties).ok()?) / 2.0;
            let [a, b] = pair.wins.map(|wins| u32::try_from(wins).map_or(f64::from(u32::MAX), f64::from) + half);
            Some((at(first)?, at(second)?, [a, b]))
        })
        .collect();
    let mut strengths = vec![1.0f64; names.len()];
    for _ in 0..MOST_ROUNDS {
        // The step of minorization-maximization (Hunter 2004): wins over the sum of games / (p + q).
        let mut wins = vec![0.5; names.len()];
        let mut shares: Vec<f64> = strengths.iter().map(|p| 1.0 / (p + 1.0)).collect();
        for &(i, j, [a, b]) in &games {
            let share = (a + b) / (strengths[i] + strengths[j]);
            wins[i] += a;
            wins[j] += b;
            shares[i] += share;
            shares[j] += share;
        }
        let next: Vec<f64> = wins.iter().zip(&shares).map(|(wins, share)| wins / share).collect();
        let change = next.iter().zip(&strengths).map(|(a, b)| (a / b).ln().abs()).fold(0.0, f64::max);
        strengths = next;
        if change < 1e-9 {
            break;
        }
    }
    strengths.iter().map(|p| AVERAGE + TENFOLD * p.log10()).collect()
}

/// Prints the scores of all votes.
pub(super) fn print(json: bool) -> anyhow::Result<ExitCode> {
    let mut text = String::new();
    if let Some(path) = path().filter(|path| path.exists()) {
        text = model_args::read_text(&path)?;
    }
    let votes: Vec<Vote> = text.lines().filter_map(Vote::parse).collect();
    let scores = Scores::new(&votes);
    let mut out = Vec::new();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&scores.to_json())?)?;
    } else if votes.is_empty() {
        writeln!(out, "no votes yet: /vote in a chat with several models keeps one")?;
    } else {
        scores.write(&mut out)?;
    }
    model_args::print(&String::from_utf8_lossy(&out))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(models: &[&str], winner: Option<usize>) -> Vote {
        Vote { models: models.iter().map(|&name| name.to_owned()).collect(), winner }
    }

    #[test]
    fn ratings_are_those_of_bradley_and_terry() {
        // Two models: the made-up ties are the only thing between them and 400 log10(3).
        let votes: Vec<Vote> = (0..400).map(|i| vote(&["a", "b"], Some(usize::from(i % 4 == 0)))).collect();
        let scores = Scores::new(&votes);
        assert_eq!(scores.pairs[&("a".to_owned(), "b".to_owned())], Pair { wins: [300, 100], ties: 0 });
        let [(first, high), (second, low)] = &scores.models[..] else { panic!("two models") };
        assert_eq!((first.as_str(), second.as_str()), ("a", "b"));
        assert!((high - low - TENFOLD * 3f64.log10()).abs() < 2.0, "{high} {low}");
        assert!((high + low - 2.0 * AVERAGE).abs() < 1e-3, "{high} {low}");
        // One that has won all is not rated without end, and one vote for it is worth less than ten.
        let one = Scores::new(&[vote(&["a", "b"], Some(0))]).models[0].1;
        let ten = Scores::new(&vec![vote(&["a", "b"], Some(0)); 10]).models[0].1;
        assert!(AVERAGE < one && one < ten && ten < 1500.0, "{one} {ten}");
    }

    #[test]
    fn a_winner_beats_each_of_the_others_and_ties_are_half_wins() {
        let votes = [vote(&["c", "a", "b"], Some(0)), vote(&["a", "b"], None)];
        let scores = Scores::new(&votes);
        assert_eq!(scores.sums("c"), [2, 0, 0]);
        assert_eq!(scores.sums("a"), [0, 1, 1]);
        let pair = |first: &str, second: &str| scores.pairs.get(&(first.to_owned(), second.to_owned())).copied();
        assert_eq!(pair("a", "c"), Some(Pair { wins: [0, 1], ties: 0 }));
        assert_eq!(pair("a", "b"), Some(Pair { wins: [0, 0], ties: 1 }));
        assert_eq!(scores.models[0].0, "c");
        assert!((scores.models[1].1 - scores.models[2].1).abs() < 1e-6);
    }

    #[test]
    fn lines_that_are_no_votes_are_left_out() {
        for line in [
            "",
            "{",
            "{}",
            r#"{"version":2,"models":["a","b"],"winner":null}"#,
            r#"{"version":1,"models":["a"],"winner":"a"}"#,
            r#"{"version":1,"models":["a","b"],"winner":"c"}"#,
        ] {
            assert_eq!(Vote::parse(line), None, "{line}");
        }
        let line = r#"{"version":1,"models":["a","b"],"winner":"b","blind":true}"#;
        assert_eq!(Vote::parse(line), Some(vote(&["a", "b"], Some(1))));
    }
}
