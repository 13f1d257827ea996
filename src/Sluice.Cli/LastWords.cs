using System.Runtime.InteropServices;
using System.Text;

namespace Sluice.Cli;

/// <summary>
/// One line on standard error where nothing else of this program may be there: when no further file can be opened, no
/// further part of it can be loaded either. It needs what is loaded before any program begins, and no descriptor.
/// </summary>
internal static class LastWords
{
    private const int StandardError = 2;

    /// <summary>Says why the command ends. Nothing escapes.</summary>
    public static void Say(Exception error)
    {
        try
        {
            byte[] line = Encoding.UTF8.GetBytes($"sluice: {ErrorText.Visible(ErrorText.Of(error))}\n");
            _ = Write(StandardError, line, line.Length);
        }
        catch (Exception)
        {
            // The status is left.
        }
    }

    [DllImport("libc", EntryPoint = "write")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern nint Write(int file, byte[] bytes, nint count);
}
