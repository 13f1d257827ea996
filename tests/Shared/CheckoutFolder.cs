namespace Sluice.Testing;

/// <summary>The checkout that the tests were built in.</summary>
internal static class CheckoutFolder
{
    /// <summary>Its path: the nearest folder above the test program with the solution file.</summary>
    public static string Root { get; } = Find();

    /// <summary>The path of something in it.</summary>
    public static string At(params string[] names) => Path.Combine([Root, .. names]);

    private static string Find()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "Sluice.slnx"))) { return folder.FullName; }
        }
        throw new InvalidOperationException("the tests do not run inside a checkout");
    }
}
