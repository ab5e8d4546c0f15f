-- What the digests are of. contract: core §14
--
-- A plain digest is enough for codes that nobody chose: from 112 random bits on (ASVS 6.5.2).

comment on column auth.mfa_recovery_codes.code_hash is 'SHA-256 of 120 random bits';
