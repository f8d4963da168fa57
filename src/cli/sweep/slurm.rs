//! A sweep as a job array of Slurm's: a task for each member, and a job behind it that makes the table.
//!
//! Each task is `dec sweep --member N`, which any other scheduler can run as well. Members find each other through the sweep's
//! directory, which all machines have to see: there are their results and checkpoints, and what they train once for all. Its locks
//! are those of the file system, which NFS has since version 4, and before by its lock daemon.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use dec::config::{Config, Threads};
use dec::run::write_atomic;

/// Seconds before the end of its time in which a member is asked to save what it has.
const NOTICE: u32 = 60;

/// A sweep to be handed over.
#[derive(Debug)]
pub struct Slurm<'a> {
    pub name: &'a str,
    pub config: &'a Config,
    /// The sweep's directory.
    pub out: &'a Path,
    /// Members that are to be run, from 1, ascending.
    pub members: &'a [usize],
    /// Members at once; `None`: as many as the cluster runs.
    pub at_once: Option<u16>,
    /// `--random N`.
    pub random: Option<usize>,
    /// Further options for `sbatch`.
    pub options: &'a [String],
}

/// The scripts for `sbatch`.
#[derive(Debug)]
pub struct Scripts {
    /// The array of members.
    pub members: String,
    /// The table, for when they have ended.
    pub table: String,
}

impl Slurm<'_> {
    /// Where everything about the jobs lies: the recipe, the scripts, what tasks say.
    fn dir(&self) -> PathBuf {
        self.out.join("slurm")
    }

    fn recipe(&self) -> PathBuf {
        self.dir().join(format!("{}.toml", self.name))
    }

    /// The scripts as they would be submitted.
    pub fn scripts(&self) -> anyhow::Result<Scripts> {
        let here = std::env::current_dir().context("cannot find the working directory")?;
        let program = std::env::current_exe().context("cannot find the running program")?;
        let (here, program, out) = (text(&here)?, text(&program)?, text(self.out)?);
        let recipe = self.recipe();
        let mut command = format!("exec {} sweep --config {} --out {}", word(program), word(text(&recipe)?), word(out));
        if let Some(count) = self.random {
            write!(command, " --random {count}")?;
        }
        let array = ranges(self.members) + &self.at_once.map_or_else(String::new, |most| format!("%{most}"));
        let logs = text(&self.dir())?.replace('%', "%%");
        let head = |what: &str, log: &str| {
            format!(
                "#!/bin/sh\n#SBATCH --job-name={}\n#SBATCH --chdir={}\n#SBATCH --output={}\n#SBATCH --open-mode=append\n\
                 #SBATCH --requeue\n",
                option(&format!("dec-{}{what}", self.name)),
                option(here),
                option(&format!("{logs}/{log}"))
            )
        };
        let mut members = head("", "%A-%a.log");
        // A member that is told in time saves what it has, and goes on from there when it is queued again.
        write!(members, "#SBATCH --array={array}\n#SBATCH --signal=B:TERM@{NOTICE}\n")?;
        if let Threads::Given(threads) = self.config.threads {
            writeln!(members, "#SBATCH --cpus-per-task={threads}")?;
        }
        if self.config.device.starts_with("cuda") {
            members += "#SBATCH --gres=gpu:1\n";
        }
        members += "export OMP_NUM_THREADS=\"${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}\"\n";
        writeln!(members, "{command} --member \"$SLURM_ARRAY_TASK_ID\"")?;
        let table = head("-table", "table.log") + &command + " --collect\n";
        Ok(Scripts { members, table })
    }

    /// Submits the jobs, and says which they are.
    pub fn submit(&self) -> anyhow::Result<String> {
        let scripts = self.scripts()?;
        let dir = self.dir();
        std::fs::create_dir_all(&dir)
            .map_err(|e| dec::Error::output(&dir, format!("cannot make this directory: {e}")))?;
        write_atomic(&self.recipe(), self.config.to_toml()?.as_bytes())?;
        let (members, table) = (dir.join("members.sbatch"), dir.join("table.sbatch"));
        write_atomic(&members, scripts.members.as_bytes())?;
        write_atomic(&table, scripts.table.as_bytes())?;
        let array = self.sbatch(&members, &[])?;
        let behind = self.sbatch(&table, &[format!("--dependency=afterany:{array}")])?;
        let count = self.members.len();
        Ok(format!(
            "job {array}: {count} member{}, and job {behind}, the table, when all have ended\n\
             squeue --job {array},{behind} shows them; what they say goes to {}\n\
             sweep directory: {} (the table will be in sweep.csv and sweep.html)\n",
            if count == 1 { "" } else { "s" },
            dir.display(),
            self.out.display()
        ))
    }

    /// Submits a script; the number of the job.
    fn sbatch(&self, script: &Path, more: &[String]) -> anyhow::Result<String> {
        let mut command = Command::new("sbatch");
        command.arg("--parsable").args(more).args(self.options).arg(script).stdin(Stdio::null());
        let ended = command.output().map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => dec::Error::Config(
                "--launcher slurm: there is no `sbatch` here; run this on a machine that submits to Slurm, or use \
                 --launcher local"
                    .to_owned(),
            ),
            _ => dec::Error::Config(format!("--launcher slurm: sbatch cannot be run: {e}")),
        })?;
        let said = String::from_utf8_lossy(&ended.stdout);
        // The number, and the cluster's name where there are several.
        let job = said.trim().split(';').next().unwrap_or_default();
        if !ended.status.success() || job.is_empty() || !job.bytes().all(|byte| byte.is_ascii_digit()) {
            let said = String::from_utf8_lossy(&ended.stderr);
            let said = said.trim().strip_prefix("sbatch: error: ").unwrap_or(said.trim());
            let problem = format!("sbatch refused {}: {said}; --sbatch gives it further options", script.display());
            return Err(dec::Error::Config(problem).into());
        }
        Ok(job.to_owned())
    }
}

/// A path in a script.
fn text(path: &Path) -> dec::Result<&str> {
    let text = path.to_str().filter(|text| !text.contains(char::is_control));
    text.ok_or_else(|| dec::Error::Config(format!("{}: a job's script cannot hold this path", path.display())))
}

/// A word of a shell's.
fn word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+=:,@%".contains(&byte);
    match !text.is_empty() && text.bytes().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// The value of an option in a line of `#SBATCH`.
fn option(text: &str) -> String {
    let plain = |byte: u8| !byte.is_ascii_whitespace() && !b"\"'\\#".contains(&byte);
    match text.bytes().all(plain) {
        true => text.to_owned(),
        false => format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\"")),
    }
}

/// `1-3,5` for 1, 2, 3 and 5.
fn ranges(numbers: &[usize]) -> String {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match found.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => found.push((number, number)),
        }
    }
    let range =
        |(first, last): (usize, usize)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    found.into_iter().map(range).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_script_says_all_that_a_task_needs() {
        let config = Config { threads: Threads::Given(4), device: "cuda".to_owned(), ..Config::default() };
        let slurm = Slurm {
            name: "grid",
            config: &config,
            out: Path::new("/data/it's \"mine\", 100%"),
            members: &[1, 2, 3, 5],
            at_once: Some(2),
            random: Some(5),
            options: &[],
        };
        let Scripts { members, table } = slurm.scripts().unwrap();
        for line in [
            "#SBATCH --job-name=dec-grid",
            "#SBATCH --array=1-3,5%2",
            "#SBATCH --cpus-per-task=4",
            "#SBATCH --gres=gpu:1",
            "#SBATCH --signal=B:TERM@60",
            r#"#SBATCH --output="/data/it's \"mine\", 100%%/slurm/%A-%a.log""#,
        ] {
            assert!(members.lines().any(|found| found == line), "{line}\n{members}");
        }
        let command = r#"sweep --config '/data/it'\''s "mine", 100%/slurm/grid.toml' --out '/data/it'\''s "mine", 100%' --random 5"#;
        assert!(members.ends_with(&format!(" {command} --member \"$SLURM_ARRAY_TASK_ID\"\n")), "{members}");
        assert!(table.ends_with(&format!(" {command} --collect\n")) && !table.contains("--array"), "{table}");

        let plain = Config::default();
        let members = Slurm { config: &plain, at_once: None, random: None, ..slurm }.scripts().unwrap().members;
        assert!(members.contains("--array=1-3,5\n") && !members.contains("cpus-per-task") && !members.contains("gres"));
        let line = Slurm { out: Path::new("/data/a\nb"), config: &plain, ..slurm };
        assert!(line.scripts().unwrap_err().to_string().contains("cannot hold this path"));
    }

    #[test]
    fn numbers_in_a_row_are_a_range() {
        assert_eq!(ranges(&[]), "");
        assert_eq!(ranges(&[7]), "7");
        assert_eq!(ranges(&[1, 2, 4, 6, 7, 8]), "1-2,4,6-8");
    }
}
