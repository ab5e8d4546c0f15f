//! The AI service: popular destinations counted from real searches and bookings (ai §4.12).
