namespace Sluice.Formats.Tests.PageTables;

/// <summary>
/// How much random testing: <c>SLUICE_ROUNDS</c> rounds of hostile words, about 1.3 million a round over all formats; the
/// usual 8 are ten million. 0 leaves out them and the random property tests: what a mutation run, which repeats everything
/// a thousand times, can bear.
/// </summary>
public static class Effort
{
    public static int Rounds { get; } =
        int.TryParse(Environment.GetEnvironmentVariable("SLUICE_ROUNDS"), out int rounds) ? rounds : 8;

    public static int Seeds => Math.Min(Rounds, 6);
}
