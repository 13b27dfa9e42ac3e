//! Median and range.

pub struct Spread {
    pub count: usize,
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// Returns `None` if there are no values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let count = values.len();
        Some(Self {
            count,
            median: (values.get(count / 2)? + values[(count - 1) / 2]) / 2.0,
            min: values[0],
            max: values[count - 1],
        })
    }
}
