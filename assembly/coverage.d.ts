/** 1 in a coverage build (test/coverage), else 0: asconfig.json. */
declare const COVERAGE: i32;
