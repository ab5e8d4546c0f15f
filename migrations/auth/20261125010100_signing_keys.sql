-- Keys that tokens are signed with, beside those of the configuration. contract: core §11 (`signing_keys`), §14
--
-- What a key does follows from its times: it is published from the start, signs from `activates_at` until a newer one does,
-- and is worth nothing from `retires_at`. Rows stay as tombstones, so that a retired key does not come back to life from an
-- environment that still names it; the private part goes.

create table auth.signing_keys (
    kid text primary key,
    alg text not null default 'EdDSA',
    public_key text not null, -- base64url, as in the key set
    private_key_enc bytea, -- sealed for `auth.signing_keys:<kid>`; null once retired
    created_at timestamptz not null,
    activates_at timestamptz not null,
    retires_at timestamptz
);
