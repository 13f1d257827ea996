using System.Globalization;
using System.Text;

namespace Sluice.Cli;

/// <summary>
/// Words of others (files' names, the system's messages, what was typed) as part of one line that a terminal shows and
/// does not obey.
/// </summary>
internal static class ErrorText
{
    /// <summary>What an exception says, in one line: no line ends, no full stop, no parameter's name.</summary>
    public static string Of(Exception error)
    {
        if (error is TypeInitializationException { InnerException: { } cause }) { return Of(cause); }
        if (MissingPart(error) is { } part)
        {
            return $"{part}, a part of the program, cannot be loaded; is the limit of open files (ulimit -n) too low?";
        }
        string message = error.Message;
        // ArgumentException appends the name of a parameter that the person at the keyboard never heard of.
        int parameter = message.LastIndexOf(" (Parameter '", StringComparison.Ordinal);
        if (error is ArgumentException && parameter >= 0)
        {
            int end = message.IndexOf("')", parameter, StringComparison.Ordinal);
            message = end < 0 ? message[..parameter] : message.Remove(parameter, end + 2 - parameter);
        }
        return OneLine(message);
    }

    /// <summary>Somebody else's sentence as part of a line: no line ends, no full stop.</summary>
    public static string OneLine(string text) => text.Trim().ReplaceLineEndings(" ").TrimEnd('.', ' ');

    /// <summary>
    /// Whether an error is one of a file: the two that <see cref="PlainFile"/> and reading what it opened end in.
    /// </summary>
    public static bool IsOfAFile(Exception error) => error is IOException or UnauthorizedAccessException;

    // The runtime loads an assembly when the first method that uses it is compiled.
    private static string? MissingPart(Exception error)
    {
        string? name = (error as FileNotFoundException)?.FileName ?? (error as FileLoadException)?.FileName;
        int end = name?.IndexOf(", Version=", StringComparison.Ordinal) ?? -1;
        return end > 0 ? name![..end] : null;
    }

    /// <summary>
    /// The text with everything escaped that would end the line, move the cursor, turn the writing round or is no text
    /// at all: <c>\n</c> becomes <c>\u000a</c>.
    /// </summary>
    public static string Visible(string text)
    {
        StringBuilder? visible = null;
        for (int i = 0; i < text.Length; i++)
        {
            bool isPair = i + 1 < text.Length && char.IsSurrogatePair(text, i);
            if (isPair || !MustBeEscaped(text[i]))
            {
                visible?.Append(text[i]);
                if (isPair) { visible?.Append(text[++i]); }
                continue;
            }
            visible ??= new StringBuilder(text, 0, i, text.Length + 16);
            visible.Append(CultureInfo.InvariantCulture, $"\\u{(int)text[i]:x4}");
        }
        return visible?.ToString() ?? text;
    }

    private static bool MustBeEscaped(char c) => char.GetUnicodeCategory(c) is UnicodeCategory.Control
        or UnicodeCategory.Format or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator
        or UnicodeCategory.Surrogate;
}
