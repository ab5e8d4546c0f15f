//! Travel supply: the provider trait, the offline provider and its reference data (voyage §6).
