namespace Sluice.Formats.Tests.PageTables;

/// <summary>
/// How much random testing: <c>SLUICE_ROUNDS</c> rounds of hostile words, about 1.3 million a round over all formats;
/// the usual 8 are ten million. 0 leaves out them, the random property tests and most repetitions: what a mutation run,
/// which repeats everything a thousand times, can bear.
/// </summary>
public static class Effort
{
    public static int Rounds { get; } =
        int.TryParse(Environment.GetEnvironmentVariable("SLUICE_ROUNDS"), out int rounds) ? rounds : 8;

    /// <summary>Repetitions inside a test: all, or a few in a mutation run.</summary>
    public static int Times(int usual) => Rounds == 0 ? Math.Min(usual, 2) : usual;

    public static int Seeds => Math.Min(Rounds, 6);
}
