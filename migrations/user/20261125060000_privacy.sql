-- Consent, privacy policies, requests of travellers about their data, erasure, the log of accesses, analytics.
-- contract: core §5.11, §10, §11, §14 (Privacy)
--
-- Every column that holds an instant ends in `_at`: the export writes those in the format of the wire.

-- What a traveller allows. A missing row means the defaults; the row is made when the account is, or at the first read.
create table users.consents (
    id uuid primary key,
    user_id uuid not null constraint consents_user_key unique,
    analytics boolean not null default false,
    marketing boolean not null default false,
    functional boolean not null default true constraint consents_functional_check check (functional),
    preferences boolean not null default true,
    ip_address text,
    last_updated_at timestamptz not null
);

create index consents_with_address on users.consents (last_updated_at) where ip_address is not null;

-- Every decision, in full. Never updated except that addresses are forgotten after 90 days.
create table users.consent_history (
    id uuid primary key,
    consent_id uuid not null references users.consents (id) on delete cascade,
    user_id uuid not null,
    analytics boolean not null,
    marketing boolean not null,
    functional boolean not null,
    preferences boolean not null,
    changed_at timestamptz not null,
    ip_address text,
    user_agent text,
    change_reason text
);

create index consent_history_newest on users.consent_history (user_id, changed_at desc, id desc);
create index consent_history_of_consent on users.consent_history (consent_id);
create index consent_history_with_address on users.consent_history (changed_at) where ip_address is not null;

create table users.privacy_policies (
    id uuid primary key,
    version text not null constraint privacy_policies_version_key unique,
    title text not null,
    content text not null,
    effective_at timestamptz not null,
    created_at timestamptz not null
);

create index privacy_policies_effective on users.privacy_policies (effective_at desc);

create table users.policy_acceptances (
    id uuid primary key,
    user_id uuid not null,
    policy_id uuid not null references users.privacy_policies (id) on delete restrict,
    policy_version text not null,
    accepted_at timestamptz not null,
    ip_address text,
    user_agent text,
    constraint policy_acceptances_once unique (user_id, policy_id)
);

create index policy_acceptances_newest on users.policy_acceptances (user_id, accepted_at desc);
create index policy_acceptances_of_policy on users.policy_acceptances (policy_id);
create index policy_acceptances_with_address on users.policy_acceptances (accepted_at) where ip_address is not null;

-- Requests of travellers. `next_attempt_at` is when a worker may take an export: the lease of the one that works on it, or
-- the pause after a failure. `execute_after` is the end of the grace of a deletion.
create table users.gdpr_requests (
    id uuid primary key,
    user_id uuid not null,
    request_type text not null constraint gdpr_requests_type_check check (
        request_type in ('DATA_EXPORT', 'DATA_DELETION', 'DATA_RECTIFICATION', 'ACCESS_REQUEST')
    ),
    status text not null default 'PENDING' constraint gdpr_requests_status_check check (
        status in ('PENDING', 'IN_PROGRESS', 'COMPLETED', 'REJECTED', 'CANCELLED')
    ),
    requested_at timestamptz not null,
    processed_at timestamptz,
    completed_at timestamptz,
    expires_at timestamptz,
    execute_after timestamptz,
    reason text,
    notes text,
    export_object text,
    attempts integer not null default 0,
    next_attempt_at timestamptz
);

create index gdpr_requests_newest on users.gdpr_requests (user_id, requested_at desc, id desc);
create index gdpr_requests_status on users.gdpr_requests (status);
-- of any number of deletion requests at the same time one is made, the others find it
create unique index gdpr_requests_one_deletion on users.gdpr_requests (user_id)
    where request_type = 'DATA_DELETION' and status in ('PENDING', 'IN_PROGRESS');
create index gdpr_requests_exports_due on users.gdpr_requests (next_attempt_at)
    where request_type = 'DATA_EXPORT' and status in ('PENDING', 'IN_PROGRESS');
create index gdpr_requests_deletions_due on users.gdpr_requests (execute_after)
    where request_type = 'DATA_DELETION' and status = 'PENDING';
create index gdpr_requests_exports_stored on users.gdpr_requests (expires_at) where export_object is not null;

-- An erasure that is under way. `contact` is the address to write to when all is gone, sealed. The row goes at the end;
-- what stays is users.erasure_log.
create table users.erasures (
    id uuid primary key,
    user_id uuid not null constraint erasures_user_key unique,
    request_id uuid,
    origin text not null constraint erasures_origin_check check (origin in ('request', 'admin')),
    actor_id uuid,
    reason text,
    contact bytea,
    requested_at timestamptz not null,
    started_at timestamptz not null,
    attempts integer not null default 0,
    next_attempt_at timestamptz not null
);

create index erasures_due on users.erasures (next_attempt_at);

-- The steps that are done. A step commits together with its row where its effect is in this database; elsewhere the
-- effect comes first and may be repeated.
create table users.erasure_steps (
    erasure_id uuid not null references users.erasures (id) on delete cascade,
    step text not null,
    done_at timestamptz not null,
    summary jsonb not null default '{}',
    primary key (erasure_id, step)
);

-- The certificate: survives the account and names nobody. Who knows the old id can find it by its digest.
create table users.erasure_log (
    id uuid primary key,
    user_id_hash text not null,
    requested_at timestamptz not null,
    completed_at timestamptz not null,
    summary jsonb not null
);

create index erasure_log_of_user on users.erasure_log (user_id_hash);

-- Who read or changed whose data. No foreign keys: the log outlives what it tells of. `user_id` is the person the data is
-- about, null where a list names no single one; after an erasure it is the pseudonym that erasure_log gives.
create table users.data_access_logs (
    id uuid primary key,
    user_id uuid,
    accessor_id text,
    accessor_type text not null constraint data_access_logs_accessor_check check (
        accessor_type in ('user', 'admin', 'service')
    ),
    action text not null constraint data_access_logs_action_check check (
        action in ('READ', 'CREATE', 'UPDATE', 'DELETE', 'EXPORT')
    ),
    resource text not null,
    resource_id text,
    ip_address text,
    user_agent text,
    endpoint text,
    method text,
    reason text,
    before_digest text,
    after_digest text,
    accessed_at timestamptz not null
);

create index data_access_logs_newest on users.data_access_logs (user_id, accessed_at desc, id desc);
create index data_access_logs_accessor on users.data_access_logs (accessor_id);
create index data_access_logs_resource on users.data_access_logs (resource, resource_id);
create index data_access_logs_age on users.data_access_logs (accessed_at);
create index data_access_logs_with_address on users.data_access_logs (accessed_at) where ip_address is not null;

create table users.analytics (
    id uuid primary key,
    service text not null,
    event text not null,
    data jsonb,
    user_id uuid,
    occurred_at timestamptz not null
);

create index analytics_of_user on users.analytics (user_id) where user_id is not null;
create index analytics_event on users.analytics (event, occurred_at);

insert into users.privacy_policies (id, version, title, content, effective_at, created_at)
values (
    '01938a2c-0000-7000-8000-000000000001',
    '1.0',
    'DreamScape Privacy Policy',
    $policy$# DreamScape Privacy Policy

Version 1.0, in force since 1 January 2025.

This policy tells you which personal data DreamScape uses when you plan and book travel with us, why, for how long, who else
receives it, and what you can ask of us. It is written under the General Data Protection Regulation (EU) 2016/679.

## 1. Who is responsible

DreamScape, the operator of this service, is the controller of your data. Write to privacy@dreamscape.app for anything about
this policy, including to reach our data protection officer. We answer within one month.

## 2. What we use, why, and on which legal ground

* **Your account**: e-mail address, name, password (kept only as a hash that cannot be turned back), and, if you give them,
  telephone number, date of birth, nationality and picture. We need them to give you an account and to keep our contract with
  you (Article 6(1)(b)).
* **Your bookings and payments**: what you book, for whom, prices, invoices and the state of each payment. We need them to
  fulfil the booking (Article 6(1)(b)) and to meet accounting and tax duties (Article 6(1)(c)). Card numbers go straight to
  our payment provider; we never see or store them.
* **Your searches, favourites, history and travel preferences**: to show you what you looked for and to fit suggestions to
  you. Personalised suggestions rest on your consent for "preferences" and can be switched off at any time.
* **Special needs you tell us about**, such as diet or accessibility. They may say something about your health or beliefs. We
  use them only to arrange your trip and to filter suggestions, with your explicit consent (Article 9(2)(a)); leave them empty
  if you do not want that.
* **Security data**: IP address, browser, time of sign-in, devices, failed sign-ins and a log of who looked at or changed your
  data. We have a legitimate interest, which is yours too, in protecting accounts and money (Article 6(1)(f)).
* **Usage statistics**, only if you consent to "analytics" (Article 6(1)(a)).
* **Offers by e-mail**, only if you consent to "marketing" (Article 6(1)(a)).

Analytics and marketing are off until you switch them on. Functional processing cannot be switched off because the service
does not work without it. You can change each consent in your privacy settings; every change is recorded with its time, and
withdrawing is as easy as giving. A withdrawal does not touch what was lawful before it.

## 3. Automated suggestions

Our recommendation service ranks destinations and offers by your preferences and past use. It never decides on prices for you
alone, on whether you may book, or on anything with legal effect. Without your consent for "preferences" it works with nothing
about you.

## 4. Who receives your data

* The airlines, hotels and activity providers of your booking, who need it to serve you and are controllers of their own.
* Our payment provider, for payments, refunds and fraud prevention.
* Providers that host the service and deliver its e-mail, bound by contract to act only on our instructions (Article 28).
* Authorities, where the law obliges us.

We do not sell personal data. A trip outside the European Economic Area means that providers there receive what your booking
needs (Article 49(1)(b)); other transfers take place only to countries with an adequacy decision or under the standard
contractual clauses of the European Commission.

## 5. How long we keep it

| Data | Kept |
|---|---|
| Account, profile, preferences, favourites, notifications | until you delete your account |
| History of your activity | 2 years |
| Bookings | 3 years; after you delete your account under a pseudonym |
| Payment and invoice records | 10 years, as commercial and tax law require |
| IP addresses with consents, acceptances and sessions | 90 days |
| Log of accesses to your data | 3 years |
| A data export that you asked for | 30 days, encrypted |
| Proof that an erasure was carried out | without naming you, for as long as it may be needed as evidence |

## 6. What you can ask of us

You may see your data, receive a copy in a machine-readable file, have it corrected, have it deleted, restrict or object to its
use, and withdraw consent. In your privacy settings you can change consents, download your data, read the log of accesses and
delete your account yourself. A deletion is carried out 30 days after you ask for it; until then you can go on using the account
and take the request back. Payment records that the law makes us keep are blocked for every other use.

You may also complain to a supervisory authority, in particular where you live, where you work or where you think a rule was
broken.

## 7. How we protect it

Traffic is encrypted. Passwords are hashed with Argon2id, exports and sensitive fields are encrypted at rest, access follows
roles, staff access to personal data is logged, and sessions can be ended at once from your account. Should a breach put you at
high risk we will tell you without undue delay.

## 8. Cookies

We set only cookies that the service needs: `ds_session` and `refreshToken` keep you signed in, `ds_guest` keeps the cart of a
visitor without an account, `ds_core` keeps your requests on one server. They carry random values and serve no advertising.

## 9. Children

Accounts are for people of 16 years and over. Data of children who travel with you is used only for their booking.

## 10. Changes

A new version is published here before it takes effect, with its date; earlier versions stay readable. Where a change needs your
agreement we ask for it.
$policy$,
    '2025-01-01T00:00:00Z',
    '2025-01-01T00:00:00Z'
);
