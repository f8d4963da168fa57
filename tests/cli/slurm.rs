//! `dec sweep` as a job array: what any scheduler needs, and a real Slurm of one node, which the test starts where it is installed.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Ran, Scratch, SMALL};

const LONGEST: Duration = Duration::from_secs(120);

fn with_sweep(sweep: &str) -> Scratch {
    let scratch = Scratch::blobs();
    let recipe = scratch.dec(["config"].iter().chain(&SMALL)).ok().stdout;
    fs::write(scratch.path("grid.toml"), format!("{recipe}\n[sweep]\n{sweep}\n")).unwrap();
    scratch
}

fn sweep(scratch: &Scratch, more: &[&str]) -> Ran {
    scratch.dec(["sweep", "--config=grid.toml", "--out=sweep"].iter().chain(more))
}

#[test]
fn members_run_one_by_one_and_are_collected() {
    let scratch = with_sweep("seed = [0, 1]");
    sweep(&scratch, &["--member=2"]).ok();
    assert_eq!(scratch.names("sweep"), ["recipes", "seed=1", "shared"]);
    let half = sweep(&scratch, &["--collect"]);
    half.failed(4, &["1 of 2 members have not finished: seed=0"]);
    assert!(half.stdout.contains("not begun"), "{half:#?}");
    sweep(&scratch, &["--member=1"]).ok();
    let table = sweep(&scratch, &["--collect"]).ok().stdout;
    assert_eq!(table.matches("finished").count(), 2, "{table}");
    assert_eq!(sweep(&scratch, &[]).ok().stdout, table, "the same as that of a whole sweep");

    sweep(&scratch, &["--member=3"]).failed(2, &["--member 3", "from 1 to 2"]);
    sweep(&scratch, &["--member=0"]).failed(2, &["--member 0"]);
    sweep(&scratch, &["--print"]).failed(2, &["--launcher slurm"]);
    sweep(&scratch, &["--sbatch=--time=1:00"]).failed(2, &["--launcher slurm"]);
    sweep(&scratch, &["--launcher=slurm", "--halving", "--set=data.limit=100"]).failed(2, &["--halving"]);
    assert!(sweep(&scratch, &["--launcher=slurm"]).ok().stdout.contains("all members have finished"));
}

#[test]
fn the_scripts_are_shown_and_a_machine_without_slurm_is_told() {
    let scratch = with_sweep("seed = [0, 1, 2]");
    let before = scratch.tree();
    let shown = sweep(&scratch, &["--launcher=slurm", "--print", "--jobs=2"]).ok().stdout;
    assert!(shown.contains("#SBATCH --array=1-3%2\n") && shown.contains("#SBATCH --job-name=dec-grid\n"), "{shown}");
    assert!(shown.contains("--member \"$SLURM_ARRAY_TASK_ID\"") && shown.contains("--collect"), "{shown}");
    assert!(scratch.tree() == before, "nothing is written");
    let mut command = scratch.command(["sweep", "--config=grid.toml", "--out=sweep", "--launcher=slurm"]);
    Ran::from(command.env("PATH", scratch.path("")).output().unwrap()).failed(2, &["no `sbatch`", "--launcher local"]);
}

/// Slurm's daemons, for as long as this lives.
struct Slurm<'a> {
    scratch: &'a Scratch,
    daemons: Vec<Child>,
}

impl<'a> Slurm<'a> {
    /// `None` where Slurm is not installed.
    fn start(scratch: &'a Scratch) -> Option<Self> {
        let find = |name: &str| {
            ["/usr/sbin/", "/usr/bin/"]
                .map(|dir| format!("{dir}{name}"))
                .into_iter()
                .find(|path| fs::exists(path).unwrap())
        };
        let (controller, node) = (find("slurmctld")?, find("slurmd")?);
        find("sbatch")?;
        let said = |program: &str, option: &str| {
            let output = Command::new(program).arg(option).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        let (host, user) = (said("hostname", "-s"), said("id", "-un"));
        let port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = scratch.path("daemons");
        for name in ["state", "spool"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        let at = |name: &str| dir.join(name).display().to_string();
        let settings = [
            ("ClusterName", "dec".to_owned()),
            ("SlurmctldHost", format!("{host}(127.0.0.1)")),
            ("SlurmctldPort", port().to_string()),
            ("SlurmdPort", port().to_string()),
            ("SlurmUser", user.clone()),
            ("SlurmdUser", user),
            ("AuthType", "auth/none".to_owned()),
            ("CredType", "cred/none".to_owned()),
            ("StateSaveLocation", at("state")),
            ("SlurmdSpoolDir", at("spool")),
            ("SlurmctldPidFile", at("controller.pid")),
            ("SlurmdPidFile", at("node.pid")),
            ("ProctrackType", "proctrack/linuxproc".to_owned()),
            ("TaskPlugin", "task/none".to_owned()),
            ("SelectType", "select/cons_tres".to_owned()),
            ("SelectTypeParameters", "CR_CPU".to_owned()),
            ("SlurmdParameters", "config_overrides".to_owned()),
            ("SwitchType", "switch/none".to_owned()),
            ("MpiDefault", "none".to_owned()),
            ("JobAcctGatherType", "jobacct_gather/none".to_owned()),
            ("NodeName", format!("{host} NodeAddr=127.0.0.1 CPUs=4")),
            ("PartitionName", "all Nodes=ALL Default=YES State=UP".to_owned()),
        ];
        let text: String = settings.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
        fs::write(dir.join("slurm.conf"), text).unwrap();
        let mut slurm = Self { scratch, daemons: Vec::new() };
        for (program, more) in [(controller, Vec::new()), (node, vec!["-N", &host])] {
            let log = fs::File::create(dir.join("log")).unwrap();
            let mut command = Command::new(program);
            command.arg("-D").args(more).env("SLURM_CONF", dir.join("slurm.conf")).stdin(Stdio::null());
            slurm.daemons.push(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        }
        slurm.until("a node that is idle", || slurm.ask("sinfo", &["--noheader", "--format=%T"]) == "idle");
        Some(slurm)
    }

    fn with_slurm(&self, mut command: Command) -> Command {
        command.env("SLURM_CONF", self.scratch.path("daemons/slurm.conf"));
        command
    }

    /// What one of Slurm's programs says.
    fn ask(&self, program: &str, args: &[&str]) -> String {
        let mut command = Command::new(program);
        command.args(args);
        let output = self.with_slurm(command).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn until(&self, what: &str, done: impl Fn() -> bool) {
        let deadline = Instant::now() + LONGEST;
        while !done() {
            let log = || fs::read_to_string(self.scratch.path("daemons/log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "no {what}; {}\n{}", self.ask("squeue", &[]), log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Submits the sweep, and waits until no job is left but for those that `stop` deals with. What dec says.
    fn sweep(&self, more: &[&str], stop: impl FnOnce(&str)) -> Ran {
        let args = ["sweep", "--config=grid.toml", "--out=sweep", "--launcher=slurm"];
        let ran = Ran::from(self.with_slurm(self.scratch.command(args.iter().chain(more))).output().unwrap()).ok();
        let job = ran.stdout.strip_prefix("job ").unwrap().split(':').next().unwrap();
        stop(job);
        self.until("end of the jobs", || self.ask("squeue", &["--noheader"]).is_empty());
        ran
    }
}

impl Drop for Slurm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.ask("scancel", &["--me"]);
        }
        for daemon in self.daemons.iter_mut().rev() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

#[test]
fn slurm_runs_a_sweep_and_what_it_stops_goes_on() {
    let scratch = with_sweep("\"finetune.epochs\" = [2, 100000000]\nseed = [0, 1]");
    let Some(slurm) = Slurm::start(&scratch) else {
        eprintln!("skipped: there is no Slurm here (Debian: apt install slurm-wlm)");
        return;
    };
    // Two members have no end: they are told to stop, as at the end of their time.
    let long = "sweep/finetune.epochs=100000000,seed=0/events.jsonl";
    let both = [long.to_owned(), long.replace("seed=0", "seed=1")];
    let ran = slurm.sweep(&["--sbatch=--comment=small"], |job| {
        let begun = |name: &String| {
            fs::read_to_string(scratch.path(name)).is_ok_and(|log| log.contains("\"stage\":\"finetune\""))
        };
        slurm.until("members that train", || both.iter().all(begun));
        for task in ["3", "4"] {
            slurm.ask("scancel", &["--batch", "--signal=TERM", &format!("{job}_{task}")]);
        }
    });
    assert!(ran.stdout.contains("4 members, and job "), "{ran:#?}");
    let table = scratch.text("sweep/sweep.csv");
    assert_eq!((table.matches(",finished,").count(), table.matches(",interrupted,").count()), (2, 2), "{table}");
    assert!(scratch.text("sweep/slurm/table.log").contains("2 of 4 members have not finished"));

    // Those alone are submitted again, and go on; with an end this time, which makes them other runs.
    let left = sweep(&scratch, &["--launcher=slurm", "--print"]).ok().stdout;
    assert!(left.contains("#SBATCH --array=3-4\n"), "{left}");
    let recipe = scratch.text("grid.toml").replace("[2, 100000000]", "[2, 3]");
    fs::write(scratch.path("grid.toml"), recipe).unwrap();
    let ran = slurm.sweep(&[], |_| ());
    assert!(ran.stdout.contains("2 members, and job "), "{ran:#?}");
    let table = scratch.text("sweep/sweep.csv");
    assert_eq!(table.matches(",finished,").count(), 4, "{table}");

    // The same bits as here.
    scratch.dec(["sweep", "--config=grid.toml", "--out=here"]).ok();
    for member in scratch.names("here").iter().filter(|name| name.starts_with("finetune")) {
        for file in ["weights.safetensors", "assignments.csv"] {
            let (there, here) =
                (scratch.read(&format!("sweep/{member}/{file}")), scratch.read(&format!("here/{member}/{file}")));
            assert!(there == here, "{member}/{file}");
        }
    }
}
