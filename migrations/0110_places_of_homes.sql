-- Where the home of an id is: a copy of its directory has the same id and another place.
ALTER TABLE homes ADD COLUMN place TEXT;
