//! The learning rate as a function of the step.

/// A rate that is constant, or divided every so many steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The rate of the first step.
    pub initial: f64,
    /// What the rate is divided by, and every how many steps; `None` keeps it constant.
    pub decay: Option<(f64, u64)>,
}

impl Schedule {
    /// The rate of step `step`, counted from 0.
    ///
    /// ```
    /// use dec::config::Schedule;
    /// // Xie et al. 2016, §4.3: 0.1, divided by 10 every 20,000 steps
    /// let schedule = Schedule { initial: 0.1, decay: Some((10.0, 20_000)) };
    /// assert_eq!(schedule.rate(19_999), 0.1);
    /// assert!((schedule.rate(20_000) - 0.01).abs() < 1e-12);
    /// ```
    pub fn rate(&self, step: u64) -> f64 {
        match self.decay {
            None => self.initial,
            Some((divisor, every)) => self.initial / divisor.powf((step / every) as f64),
        }
    }
}
