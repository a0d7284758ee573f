/** 1 in a coverage build (scripts/coverage.ts), else 0: asconfig.json. */
declare const COVERAGE: i32;
