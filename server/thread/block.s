// The compiler takes functions without a body only from a package that has a file in assembly.
