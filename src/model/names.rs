//! What people call the clusters of a run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::groups::Groups;

/// Characters of a name at most.
const LONGEST: usize = 200;

/// Names of some of the clusters, by their numbers.
///
/// No two clusters have one name, and no name is a whole number: in a column of names, a cluster without one has its number.
///
/// ```
/// use dec::model::ClusterNames;
///
/// let mut names = ClusterNames::default();
/// names.set(2, "T cells", 3)?;
/// assert_eq!(names.of_all(3), ["0", "1", "T cells"]);
/// assert!(names.set(0, "T cells", 3).is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterNames(BTreeMap<usize, String>);

impl ClusterNames {
    /// Calls a cluster of `n_clusters` so. White space around a name is left out, and an empty one takes the cluster's name away.
    ///
    /// # Errors
    /// What is wrong with the number or the name; the names are then as before.
    pub fn set(&mut self, cluster: usize, name: &str, n_clusters: usize) -> Result<(), String> {
        let name = name.trim();
        if name.chars().count() > LONGEST {
            return Err(format!("the name of cluster {cluster} has more than {LONGEST} characters"));
        }
        let mut changed = self.clone();
        match name.is_empty() {
            true => changed.0.remove(&cluster),
            false => changed.0.insert(cluster, name.to_owned()),
        };
        check_number(cluster, n_clusters)?;
        changed.check(n_clusters)?;
        *self = changed;
        Ok(())
    }

    /// Refuses names that [`ClusterNames::set`] would not have made.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self, n_clusters: usize) -> Result<(), String> {
        let mut known: BTreeMap<&str, usize> = BTreeMap::new();
        for (&cluster, name) in &self.0 {
            check_number(cluster, n_clusters)?;
            if name.trim().is_empty() {
                return Err(format!("the name of cluster {cluster} is empty"));
            }
            if name.parse::<i64>().is_ok() {
                return Err(format!(
                    "cluster {cluster} cannot be called {name}: that would be taken for a cluster's number"
                ));
            }
            if let Some(other) = known.insert(name, cluster) {
                return Err(format!(
                    "clusters {other} and {cluster} cannot both be called \"{}\"",
                    name.escape_debug()
                ));
            }
        }
        Ok(())
    }

    /// Whether no cluster has a name.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A cluster's name, if it has one.
    pub fn get(&self, cluster: usize) -> Option<&str> {
        self.0.get(&cluster).map(String::as_str)
    }

    /// The name of each of `n_clusters` clusters, or its number where it has none; nothing where no cluster has a name.
    pub fn of_all(&self, n_clusters: usize) -> Vec<String> {
        if self.is_empty() {
            return Vec::new();
        }
        (0..n_clusters).map(|cluster| self.get(cluster).map_or_else(|| cluster.to_string(), str::to_owned)).collect()
    }

    /// The names after clusters were joined: a joined one has the names of its parts, with " + " between.
    #[must_use]
    pub fn joined(&self, groups: &Groups) -> Self {
        let name = |members: &Vec<usize>| {
            let names: Vec<&str> = members.iter().filter_map(|&member| self.get(member)).collect();
            names.join(" + ")
        };
        let members = groups.members();
        let names = members.iter().map(name).enumerate();
        Self(names.filter(|(_, name)| !name.is_empty()).collect())
    }
}

fn check_number(cluster: usize, n_clusters: usize) -> Result<(), String> {
    if cluster < n_clusters {
        return Ok(());
    }
    Err(format!("there is no cluster {cluster}; there are {n_clusters}, 0 to {}", n_clusters.saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_given_changed_and_taken_away() {
        let mut names = ClusterNames::default();
        assert!(names.of_all(4).is_empty());
        names.set(3, " neurons\t", 4).unwrap();
        names.set(1, "T cells", 4).unwrap();
        assert_eq!(names.of_all(4), ["0", "T cells", "2", "neurons"]);
        names.set(1, "", 4).unwrap();
        names.set(3, "glia", 4).unwrap();
        assert_eq!(names.of_all(4), ["0", "1", "2", "glia"]);
        names.set(3, " ", 4).unwrap();
        assert!(names.is_empty());
    }

    #[test]
    fn names_that_would_mislead_are_refused_and_change_nothing() {
        let mut names = ClusterNames::default();
        names.set(0, "a", 3).unwrap();
        let before = names.clone();
        for (cluster, name, words) in [
            (1, "a".to_owned(), "clusters 0 and 1 cannot both be called \"a\""),
            (1, "2".to_owned(), "a cluster's number"),
            (1, "-1".to_owned(), "a cluster's number"),
            (3, "b".to_owned(), "no cluster 3; there are 3, 0 to 2"),
            (3, String::new(), "no cluster 3"),
            (1, "x".repeat(201), "more than 200 characters"),
        ] {
            let refused = names.set(cluster, &name, 3).unwrap_err();
            assert!(refused.contains(words), "{refused}");
            assert_eq!(names, before);
        }
    }

    #[test]
    fn a_joined_cluster_has_the_names_of_its_parts() {
        let mut names = ClusterNames::default();
        [(1, "a"), (3, "b"), (4, "c")].into_iter().for_each(|(cluster, name)| names.set(cluster, name, 5).unwrap());
        let groups = Groups::joined(5, &[vec![0, 4], vec![3, 1]]).unwrap();
        assert_eq!(names.joined(&groups).of_all(3), ["c", "a + b", "2"]);
        assert!(ClusterNames::default().joined(&groups).is_empty());
    }

    #[test]
    fn they_are_kept_as_json_by_number() {
        let mut names = ClusterNames::default();
        names.set(10, "\u{1b}[2J", 11).unwrap();
        let json = serde_json::to_value(&names).unwrap();
        assert_eq!(json, serde_json::json!({ "10": "\u{1b}[2J" }));
        assert_eq!(serde_json::from_value::<ClusterNames>(json).unwrap(), names);
        for (json, words) in
            [(r#"{"0": "a", "1": "a"}"#, "both"), (r#"{"7": "a"}"#, "no cluster 7"), (r#"{"0": ""}"#, "empty")]
        {
            let refused = serde_json::from_str::<ClusterNames>(json).unwrap().check(3).unwrap_err();
            assert!(refused.contains(words), "{refused}");
        }
    }
}
