//! Rows of which each of the processes that train together holds a part.
//!
//! A row is read, scaled and held by one process, and goes to another where that computes on it: on its part of a batch, say. What goes
//! where follows from the row numbers, which all processes know, so that nothing has to be asked for.

use tch::{Device, TchError, Tensor};

use super::rows::values_of;
use crate::backend::ranks::Ranks;
use crate::error::Result;

/// Values of rows that go to all processes at once.
const BLOCK_VALUES: i64 = 1 << 20;

/// This process's part of n rows.
#[derive(Debug)]
pub(super) struct Divided {
    /// As they are stored, \[rows of [`Ranks::share`], d\].
    pub own: Tensor,
    /// Rows of all processes.
    pub n: i64,
    pub ranks: Ranks,
}

impl Divided {
    pub fn shallow_clone(&self) -> Self {
        Self { own: self.own.shallow_clone(), n: self.n, ranks: self.ranks }
    }

    /// The rows of the numbers that this process asks for, and each one's place among them. All processes come here at the same time and
    /// know what each `asks` for.
    ///
    /// # Errors
    /// A row that is not there; as for [`Ranks::exchange`].
    pub fn fetch<'a>(&self, asks: impl Fn(usize) -> &'a [i64]) -> Result<(Tensor, Tensor)> {
        // All see it, and so all refuse.
        let outside = |row: &&i64| !(0..self.n).contains(*row);
        if let Some(row) = (0..self.ranks.size()).find_map(|process| asks(process).iter().find(outside)) {
            return Err(TchError::Shape(format!("row {row} of {}", self.n)).into());
        }
        let plan = Plan::new(self.ranks, self.n, asks);
        let device = self.own.device();
        let going = self.own.f_index_select(0, &Tensor::f_from_slice(&plan.going)?.f_to_device(device)?)?;
        let d = self.own.size()[1];
        let coming = Tensor::f_empty([plan.received.iter().sum(), d], (self.own.kind(), Device::Cpu))?;
        self.ranks.exchange(&going.f_to_device(Device::Cpu)?.f_contiguous()?, &plan.sent, &coming, &plan.received)?;
        Ok((coming.f_to_device(device)?, Tensor::f_from_slice(&plan.places)?.f_to_device(device)?))
    }

    /// [`Divided::fetch`] where all ask for the same.
    ///
    /// # Errors
    /// As for [`Divided::fetch`].
    pub fn fetch_all(&self, indices: &Tensor) -> Result<(Tensor, Tensor)> {
        let indices: Vec<i64> = values_of(indices)?;
        self.fetch(|_| &indices)
    }

    /// The rows from `start` on, \[length, d\], for all; in pieces, so that they are in memory once.
    ///
    /// # Errors
    /// As for [`Divided::fetch`].
    pub fn block(&self, start: i64, length: i64) -> Result<Tensor> {
        let d = self.own.size()[1];
        let all = Tensor::f_empty([length, d], (self.own.kind(), self.own.device()))?;
        let size = (BLOCK_VALUES / d.max(1)).max(1);
        for first in (0..length).step_by(size as usize) {
            let rows: Vec<i64> = (start + first..start + length.min(first + size)).collect();
            let (coming, places) = self.fetch(|_| &rows)?;
            let mut part = all.f_narrow(0, first, rows.len() as i64)?;
            part.f_copy_(&coming.f_index_select(0, &places)?)?;
        }
        Ok(all)
    }

    /// [`Divided::fetch`] of a batch, of which each process asks for its share.
    ///
    /// # Errors
    /// As for [`Divided::fetch`].
    pub fn fetch_share(&self, batch: &Tensor) -> Result<(Tensor, Tensor)> {
        let batch: Vec<i64> = values_of(batch)?;
        self.fetch(|process| {
            let share = self.ranks.share_of(process, batch.len() as i64);
            &batch[share.start as usize..share.end as usize]
        })
    }
}

/// Which rows go where, from one process's point of view.
#[derive(Debug)]
struct Plan {
    /// Own rows, counted from the first, that go to the processes, in their order.
    going: Vec<i64>,
    /// How many go to each.
    sent: Vec<i64>,
    /// How many come from each.
    received: Vec<i64>,
    /// Where each row that is asked for is among those that come.
    places: Vec<i64>,
}

impl Plan {
    fn new<'a>(ranks: Ranks, n: i64, asks: impl Fn(usize) -> &'a [i64]) -> Self {
        let held = ranks.share(n);
        let (mut going, mut sent) = (Vec::new(), Vec::new());
        for process in 0..ranks.size() {
            let before = going.len();
            going.extend(asks(process).iter().filter(|row| held.contains(row)).map(|row| row - held.start));
            sent.push((going.len() - before) as i64);
        }
        let asked = asks(ranks.rank());
        let mut received = vec![0; ranks.size()];
        asked.iter().for_each(|&row| received[ranks.owner(row, n)] += 1);
        let mut next: Vec<i64> = received
            .iter()
            .scan(0, |sum, count| {
                *sum += count;
                Some(*sum - count)
            })
            .collect();
        let place = |&row: &i64| {
            let place = &mut next[ranks.owner(row, n)];
            *place += 1;
            *place - 1
        };
        let places = asked.iter().map(place).collect();
        Self { going, sent, received, places }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each of `size` processes gets that asks for its list of rows of n, by the plans of all.
    fn exchanged(n: i64, asked: &[Vec<i64>]) -> Vec<Vec<i64>> {
        let size = asked.len();
        let of = |process| Ranks::of(process, size);
        let plans: Vec<Plan> = (0..size).map(|process| Plan::new(of(process), n, |p| &asked[p])).collect();
        let parcel = |from: usize, to: usize| {
            let first: i64 = plans[from].sent[..to].iter().sum();
            let rows = &plans[from].going[first as usize..][..plans[from].sent[to] as usize];
            rows.iter().map(|row| row + of(from).share(n).start).collect::<Vec<_>>()
        };
        (0..size)
            .map(|to| {
                let parcels: Vec<Vec<i64>> = (0..size).map(|from| parcel(from, to)).collect();
                assert!(parcels.iter().zip(&plans[to].received).all(|(parcel, &count)| parcel.len() as i64 == count));
                let coming = parcels.concat();
                plans[to].places.iter().map(|&place| coming[place as usize]).collect()
            })
            .collect()
    }

    #[test]
    fn every_process_gets_what_it_asks_for_in_its_order() {
        for (n, size) in [(10, 1), (10, 3), (7, 5), (3, 5), (1_000, 4)] {
            let asked: Vec<Vec<i64>> =
                (0..size).map(|process| (0..20 * process).map(|i| (i * 7 + process * 3) % n).collect()).collect();
            assert_eq!(exchanged(n, &asked), asked, "{n} rows, {size} processes");
        }
    }

    #[test]
    fn the_owner_of_a_row_is_who_has_it_in_its_share() {
        for (n, size) in [(1, 1), (10, 3), (7, 5), (3, 5), (1_000, 7)] {
            for process in 0..size {
                let ranks = Ranks::of(process, size);
                assert!(ranks.share(n).all(|row| ranks.owner(row, n) == process), "{n} rows, {size} processes");
            }
        }
    }
}
