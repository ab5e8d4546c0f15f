-- Writes the named columns of $2 over one row and notes the step. Columns that $2 does not name keep their values, because
-- the new row starts as the old one. The list of columns is the allow-list of core §5.5.
update users.onboarding_profiles as profile
set (
    preferred_destinations, travel_style, global_budget_range, budget_by_category, budget_flexibility,
    travel_types, travel_purposes, preferred_seasons, preferred_trip_duration, date_flexibility,
    accommodation_types, accommodation_level, room_preferences, preferred_airlines, cabin_class_preference,
    transport_modes, transport_budget_share, activity_types, interest_categories, activity_level,
    travel_group_types, group_size, travel_with_children, children_ages, dietary_requirements,
    accessibility_needs, health_considerations, language_barriers, cultural_considerations, comfort_level,
    service_level, privacy_preference, climate_preferences, weather_tolerances, experience_level,
    risk_tolerance, cultural_immersion, loyalty_programs, payment_preferences
) = (
    select
        given.preferred_destinations, given.travel_style, given.global_budget_range,
        given.budget_by_category, given.budget_flexibility, given.travel_types, given.travel_purposes,
        given.preferred_seasons, given.preferred_trip_duration, given.date_flexibility,
        given.accommodation_types, given.accommodation_level, given.room_preferences,
        given.preferred_airlines, given.cabin_class_preference, given.transport_modes,
        given.transport_budget_share, given.activity_types, given.interest_categories, given.activity_level,
        given.travel_group_types, given.group_size, given.travel_with_children, given.children_ages,
        given.dietary_requirements, given.accessibility_needs, given.health_considerations,
        given.language_barriers, given.cultural_considerations, given.comfort_level, given.service_level,
        given.privacy_preference, given.climate_preferences, given.weather_tolerances,
        given.experience_level, given.risk_tolerance, given.cultural_immersion, given.loyalty_programs,
        given.payment_preferences
    from jsonb_populate_record(profile, $2::jsonb) as given
),
    completed_steps = case
        when $4 and not ($3 = any (profile.completed_steps)) then array_append(profile.completed_steps, $3)
        else profile.completed_steps
    end,
    step_data = profile.step_data
        || jsonb_build_object($3::text, coalesce(profile.step_data -> $3, '{}'::jsonb) || $5::jsonb),
    updated_at = $6
where profile.user_id = $1
returning
    profile.id, profile.user_id as "user_id: UserId", profile.is_completed, profile.completed_steps, profile.completed_at,
    profile.version, profile.step_data, to_jsonb(profile) as "answers!", profile.created_at, profile.updated_at
