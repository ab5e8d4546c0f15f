-- Channels of notifications, the queue of realtime pushes, and travel onboarding. contract: core §5.5, §5.9, §5.10, §11

alter table users.settings
    add column notification_preferences jsonb; -- null until chosen: the defaults of core §5.9

-- Notifications that open sockets have not been told of yet. A row is made in the transaction of its notification and
-- goes once it was published to all replicas, so that a crash in between loses nothing. `due_at` is the lease of the
-- replica that works on it.
create table users.pushes (
    notification_id uuid primary key references users.notifications (id) on delete cascade,
    due_at timestamptz not null,
    created_at timestamptz not null
);

create index pushes_due on users.pushes (due_at, created_at);

-- One traveller's answers. Enumerated values are checked by the service, which knows their names.
create table users.onboarding_profiles (
    user_id uuid primary key,
    id uuid not null unique,
    is_completed boolean not null default false,
    completed_steps text[] not null default '{}',
    completed_at timestamptz,
    version integer not null default 1,
    step_data jsonb not null default '{}', -- step -> what was saved with it

    preferred_destinations jsonb,
    travel_style text,
    global_budget_range jsonb,
    budget_by_category jsonb,
    budget_flexibility text,
    travel_types text[] not null default '{}',
    travel_purposes text[] not null default '{}',
    preferred_seasons text[] not null default '{}',
    preferred_trip_duration jsonb,
    date_flexibility text,
    accommodation_types text[] not null default '{}',
    accommodation_level text,
    room_preferences jsonb,
    preferred_airlines text[] not null default '{}',
    cabin_class_preference text,
    transport_modes text[] not null default '{}',
    transport_budget_share double precision,
    activity_types text[] not null default '{}',
    interest_categories text[] not null default '{}',
    activity_level text,
    travel_group_types text[] not null default '{}',
    group_size jsonb,
    travel_with_children boolean not null default false,
    children_ages integer[] not null default '{}',
    dietary_requirements text[] not null default '{}',
    accessibility_needs text[] not null default '{}',
    health_considerations text[] not null default '{}',
    language_barriers text[] not null default '{}',
    cultural_considerations text[] not null default '{}',
    comfort_level text,
    service_level text,
    privacy_preference text,
    climate_preferences text[] not null default '{}',
    weather_tolerances jsonb,
    experience_level text,
    risk_tolerance text,
    cultural_immersion text,
    loyalty_programs jsonb,
    payment_preferences text[] not null default '{}',

    created_at timestamptz not null,
    updated_at timestamptz not null
);
