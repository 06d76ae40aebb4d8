//! What redis-benchmark prints.

/// The rate in the output of `redis-benchmark --csv`: the second field of the last line, `"SET","98039.22","0.263",...`.
pub fn requests_per_second(csv: &str) -> Option<f64> {
    csv.lines().last()?.split(',').nth(1)?.trim_matches('"').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::requests_per_second;

    #[test]
    fn the_rate_is_read_from_what_redis_benchmark_prints() {
        let header = "\"test\",\"rps\",\"avg_latency_ms\"\n";
        assert_eq!(
            requests_per_second(&format!("{header}\"SET\",\"98039.22\",\"0.263\"\n")),
            Some(98_039.22)
        );
        assert_eq!(requests_per_second(header), None);
    }
}
